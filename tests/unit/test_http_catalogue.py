"""The list of files: what is read again for it, and how old it may be."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from pipeline import layout
from pipeline.store import Head, MemoryStore
from sink import http_catalogue
from tests.files import Files
from tests.http_client import Client, reader


class Counting(MemoryStore):
    """Counts what is read; each listing moves the clock on by `slowness` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        self.now = 0.0
        self.slowness = 0.0

    def clock(self) -> float:
        self.now += 1e-6
        return self.now

    def get(self, key: str) -> tuple[bytes, Head]:
        self.reads[key] += 1
        return super().get(key)

    def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
        self.now += self.slowness
        return super().list(prefix, delimiter=delimiter)


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def files(store: Counting) -> Files:
    return Files(results=store)


@pytest.fixture
def client(files: Files, store: Counting) -> Iterator[Client]:
    with reader(files) as found:
        found.app.state.reader.catalogue.clock = store.clock
        yield found


def listed(client: Client, query: str = "") -> dict[str, str]:
    return {item["name"]: item["state"] for item in client.get(f"/results{query}").json()["items"]}


def test_what_has_not_changed_is_not_read_again(files: Files, store: Counting, client: Client) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        files.published(name)
    assert set(listed(client).values()) == {"published"}
    store.reads.clear()
    assert len(listed(client)) == 3
    assert not store.reads
    files.upload("b.csv", b"other\n")
    assert listed(client) == {"a.csv": "published", "b.csv": "uploaded", "c.csv": "published"}
    assert {key.rpartition("/")[2] for key in store.reads} == {"b.csv.json"}


def test_a_file_on_its_way_is_looked_at_each_time(files: Files, client: Client) -> None:
    files.upload()
    job = files.take_on()
    assert listed(client) == {"orders.csv": "uploaded"}
    files.claim(job, blocks=1)
    assert listed(client) == {"orders.csv": "capturing"}
    files.end(job, "failed")
    assert listed(client) == {"orders.csv": "failed"}


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.delete("orders.csv", generation=2),
        lambda files: files.refuse("orders.csv", files.upload(content=b"\0"), "it is no CSV"),
        lambda files: files.published("new.csv"),
        lambda files: files.uploads.put("orders.csv.gz", b"a second source of the same name"),
    ],
    ids=["deleted", "refused", "new", "second source"],
)
def test_every_change_is_seen_at_once_where_there_are_few_files(
    files: Files, store: Counting, client: Client, change: partial[None]
) -> None:
    files.published()
    before = listed(client)
    change(files)
    with reader(files) as another:
        assert listed(client) == listed(another)
    assert before == {"orders.csv": "published"}


def test_a_listing_that_takes_long_is_used_again_for_a_while(
    files: Files, store: Counting, client: Client
) -> None:
    store.slowness = 1.0
    files.published("a.csv")
    assert list(listed(client)) == ["a.csv"]
    took = store.now
    files.published("b.csv")
    assert list(listed(client)) == ["a.csv"]
    assert store.now - took < 1
    store.now += took * (http_catalogue.REUSED + 1)
    assert list(listed(client)) == ["a.csv", "b.csv"]


def test_a_listing_that_took_very_long_is_not_used_for_minutes(
    files: Files, store: Counting, client: Client
) -> None:
    store.slowness = 100.0
    files.published("a.csv")
    listed(client)
    files.published("b.csv")
    store.now += http_catalogue.LONGEST + 1
    assert list(listed(client)) == ["a.csv", "b.csv"]


def test_a_listing_in_use_is_renewed_beside_the_answers(
    files: Files, store: Counting, client: Client
) -> None:
    store.slowness = 1.0
    files.published("a.csv")
    listed(client)
    files.published("b.csv")
    store.now += store.now * (http_catalogue.RENEWED + 1)
    assert list(listed(client)) == ["a.csv"]
    client.call(client.app.state.reader.catalogue.renewed)
    assert list(listed(client)) == ["a.csv", "b.csv"]


def test_only_so_many_states_are_kept(
    files: Files, store: Counting, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_catalogue, "KEPT", 2)
    for name in ("a.csv", "b.csv", "c.csv"):
        files.published(name)
    listed(client)
    store.reads.clear()
    assert len(listed(client, "?prefix=c")) == 1
    assert not store.reads
    assert len(listed(client, "?prefix=a")) == 1
    assert set(store.reads) == {layout.name_record("a.csv"), layout.receipt("a.csv")}

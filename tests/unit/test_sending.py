"""A large file is sent while it is looked at, and is an object only once it was found right."""

import threading
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.dialect import DialectOverrides
from pipeline.errors import CalculationError, Unreachable
from pipeline.store import MemoryStore
from producer import push
from producer.progress import Silent
from producer.sending import Sending, TakenBack
from tests.unit.capture_doubles import SETTINGS, csv


class Parts(MemoryStore):
    """A store that says when it has been given the last byte, and whether it was told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.stopped = threading.Event(), threading.Event()

    def upload(self, key: str, chunks: Any, **more: Any) -> str:
        taken = []
        try:
            for chunk in chunks:
                taken.append(chunk)
                self.begun.set()
        except TakenBack:
            self.stopped.set()
            raise
        return self.put(key, b"".join(taken), **more)


def sending(store: MemoryStore, path: Path) -> Sending:
    return Sending(lambda: store, path, "orders.csv", path.stat().st_size, {"told": "x"})


def test_there_is_no_object_before_it_is_wanted(tmp_path: Path) -> None:
    store, path = Parts(), tmp_path / "orders.csv"
    path.write_bytes(csv(1000))
    one = sending(store, path)
    assert store.begun.wait(20)
    assert not list(store.list())
    etag, crc32 = one.complete()
    content, head = store.get("orders.csv")
    assert (content, head.etag, head.metadata["told"]) == (path.read_bytes(), etag, "x")
    assert crc32 == zlib.crc32(content)
    one.take_back()  # too late for that
    assert [head.key for head in store.list()] == ["orders.csv"]


def test_what_was_sent_of_an_upload_that_is_not_wanted_is_taken_back(tmp_path: Path) -> None:
    store, path = Parts(), tmp_path / "orders.csv"
    path.write_bytes(csv(1000))
    one = sending(store, path)
    assert store.begun.wait(20)
    one.take_back()
    assert store.stopped.is_set()
    assert not list(store.list())


def test_what_stands_in_the_way_is_told_to_who_waits(tmp_path: Path) -> None:
    class Silence(MemoryStore):
        def upload(self, key: str, chunks: Any, **more: Any) -> str:
            raise Unreachable("S3 is silent")

    path = tmp_path / "orders.csv"
    path.write_bytes(csv(3))
    one = sending(Silence(), path)
    with pytest.raises(Unreachable, match="silent"):
        one.complete()
    one.take_back()


@pytest.mark.parametrize("right", [True, False])
def test_a_large_file_is_sent_while_it_is_looked_at(
    right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And taken back where it can't be read."""
    store, path = Parts(), tmp_path / "orders.csv"
    path.write_bytes(csv(1000) if right else b"order_id,price\n1,2\n")
    monkeypatch.setattr(push, "LARGE", 1)
    monkeypatch.setattr(push, "uploads_bucket", lambda _: store)
    looked: list[push._File] = []
    with ExitStack() as contents:

        def look() -> None:
            looked.append(
                push._look_at(path, SETTINGS, None, DialectOverrides(), contents, Silent(), send=True)
            )

        if right:
            look()
            assert looked[0].sending is not None
            assert looked[0].sending.complete()[1] == looked[0].spooled.crc32
        else:
            with pytest.raises(CalculationError, match="quantity"):
                look()
    assert bool(list(store.list())) is right
    assert store.stopped.is_set() is not right

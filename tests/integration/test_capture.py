"""Capture on real brokers and a real S3 server, read back by a plain Kafka client."""

import gzip
import json
import signal
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.integration.chain import CONFIGURATION, Message, consume, environment, millstream, running
from tests.services.kafka import Broker
from tests.services.s3 import S3


def csv(rows: int) -> bytes:
    return b"order_id,quantity,note\n" + b"".join(
        b"%07d,%d,row %d\n" % (row, row % 9, row) for row in range(rows)
    )


def job_of(s3: S3, name: str) -> dict[str, Any]:
    """The name's job, as anybody with an S3 client finds it."""
    client = s3.client()

    def read(key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(client.get_object(Bucket=s3.results, Key=key)["Body"].read())
        return found

    record = read(f"_millstream/names/{name}.json")
    return read(f"_millstream/jobs/{record['file_id']}/job.json")


def captured_of(s3: S3, file_id: str) -> dict[str, Any]:
    body = (
        s3.client()
        .get_object(Bucket=s3.results, Key=f"_millstream/jobs/{file_id}/captured.json")["Body"]
        .read()
    )
    found: dict[str, Any] = json.loads(body)
    return found


def split(messages: list[Message], file_id: str) -> tuple[dict[int, set[int]], dict[int, Any]]:
    """Return the row numbers and the ends that each partition carries."""
    rows: dict[int, set[int]] = {}
    ends: dict[int, Any] = {}
    for partition, key, value in messages:
        job, what = key.split(":")[:2]
        assert job == file_id
        if what == "end":
            ends[partition] = json.loads(value)
        else:
            rows.setdefault(partition, set()).add(int(what))
    return rows, ends


def dealt(file_id: str, rows: int, block: int = 8192, partitions: int = 4) -> dict[int, set[int]]:
    """Where each row belongs, by the design's words."""
    found: dict[int, set[int]] = {}
    for row in range(rows):
        found.setdefault((zlib.crc32(file_id.encode()) + row // block) % partitions, set()).add(row)
    return found


def test_a_plain_consumer_reads_what_the_design_shows(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    (folder / "orders.csv").write_bytes(
        b'order_id,quantity,note\n007,3,"a ""quoted""\nnote"\n008,4\n009,,\xc3\xa9\n'
    )
    done = millstream("push", "orders.csv", folder=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert "orders.csv: 3 rows captured, 1 of them malformed" in done.stderr
    file_id = job_of(s3, "orders.csv")["file_id"]
    messages = rows_topic()
    assert {partition for partition, _, _ in messages} == {zlib.crc32(file_id.encode()) % 4}
    assert {key.removeprefix(file_id): json.loads(value) for _, key, value in messages} == {
        ":0": {"order_id": "007", "quantity": "3", "note": 'a "quoted"\nnote'},
        ":1:rejected": {"error": "expected 3 fields, found 2", "line": 4, "text": "008,4"},
        ":2": {"order_id": "009", "quantity": "", "note": "é"},
        ":end": {"rows": 3, "round": 0},
    }
    assert messages[0][2] == b'{"order_id":"007","quantity":"3","note":"a \\"quoted\\"\\nnote"}'


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_large_file_uses_all_partitions(
    suffix: str, folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    plain = csv(50_000)
    packed = {"": plain, ".gz": gzip.compress(plain), ".zst": pa.compress(plain, "zstd", asbytes=True)}[
        suffix
    ]
    (folder / f"orders.csv{suffix}").write_bytes(packed)
    done = millstream("push", f"orders.csv{suffix}", folder=folder, env=env)
    assert done.returncode == 0, done.stderr
    job = job_of(s3, "orders.csv")
    assert job["source"]["key"] == f"orders.csv{suffix}"
    messages = rows_topic()
    rows, ends = split(messages, job["file_id"])
    assert rows == dealt(job["file_id"], 50_000)
    assert ends == {partition: {"rows": len(share), "round": 0} for partition, share in rows.items()}
    assert len(messages) == 50_000 + 4
    values = {key: value for _, key, value in messages}
    assert json.loads(values[f"{job['file_id']}:49999"]) == {
        "order_id": "0049999",
        "quantity": "4",
        "note": "row 49999",
    }


def test_a_header_without_rows_is_a_job_of_no_rows(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    (folder / "orders.csv").write_bytes(csv(0))
    assert millstream("push", "orders.csv", folder=folder, env=env).returncode == 0
    file_id = job_of(s3, "orders.csv")["file_id"]
    assert rows_topic() == [(zlib.crc32(file_id.encode()) % 4, f"{file_id}:end", b'{"rows":0,"round":0}')]


def test_a_row_above_the_brokers_limit_is_malformed_and_stops_nobody(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    (folder / "orders.csv").write_bytes(csv(2) + b"0000002,1," + b"z" * 2_000_000 + b"\n0000003,1,last\n")
    done = millstream("push", "orders.csv", folder=folder, env=env)
    assert done.returncode == 0, done.stderr
    values = {key.partition(":")[2]: value for _, key, value in rows_topic()}
    assert sorted(values) == ["0", "1", "2:rejected", "3", "end"]
    malformed = json.loads(values["2:rejected"])
    assert (malformed["line"], len(malformed["text"])) == (4, 65_536)
    assert "1,000,000" in malformed["error"]


def test_pushing_the_same_again_says_so_and_again_computes_it_anew(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    (folder / "orders.csv").write_bytes(csv(3))
    assert millstream("push", "orders.csv", folder=folder, env=env).returncode == 0
    second = millstream("push", "orders.csv", folder=folder, env=env)
    assert second.returncode == 0
    assert "already running" in second.stderr
    assert len(rows_topic()) == 4
    third = millstream("push", "orders.csv", "--again", folder=folder, env=env)
    assert third.returncode == 0
    assert job_of(s3, "orders.csv")["generation"] == 2
    assert len(rows_topic()) == 8


def test_watch_takes_on_what_it_finds_and_writes_down_what_it_refuses(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    client = s3.client()
    client.put_object(Bucket=s3.uploads, Key="2026/a.csv", Body=csv(10))
    client.put_object(Bucket=s3.uploads, Key="b.txt", Body=csv(10))
    with running(["-m", "millstream", "watch"], folder, env) as watch:
        client.put_object(Bucket=s3.uploads, Key="c.csv", Body=csv(0))
        wait_for(lambda: captured_of(s3, job_of(s3, "2026/a.csv")["file_id"])["rows"] == 10)
        wait_for(lambda: captured_of(s3, job_of(s3, "c.csv")["file_id"])["rows"] == 0)
        refusal = wait_for(lambda: get(s3, "_millstream/refused/b.txt.json"))
        assert "no calculation matches 'b.txt'" in json.loads(refusal)["reason"]
        (folder / "millstream.toml").write_text(CONFIGURATION.replace('"*.csv"', '"*"'))
        wait_for(lambda: captured_of(s3, job_of(s3, "b.txt")["file_id"])["rows"] == 10)
        wait_for(lambda: "Contents" not in listed(s3, "_millstream/refused/"))
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(5) == 0
    counts = Counter(key.rpartition(":")[2] for _, key, _ in rows_topic())
    assert counts["end"] == 3


def test_a_push_killed_half_way_is_finished_by_watch_and_no_row_is_missing(
    folder: Path, env: dict[str, str], s3: S3, rows_topic: Callable[[], list[Message]]
) -> None:
    rows = 400_000
    (folder / "orders.csv").write_bytes(csv(rows))
    impatient = ["-m", "tests.integration.impatient"]
    with running([*impatient, "push"], folder, env) as push:
        claim = wait_for(lambda: claim_of(s3, "orders.csv"), 60)
        push.kill()
    assert claim["rows"] == 8192 * claim["blocks"] > 0
    file_id = job_of(s3, "orders.csv")["file_id"]
    assert get(s3, f"_millstream/jobs/{file_id}/captured.json") is None, "it was over before it was killed"
    with running([*impatient, "watch"], folder, env) as watch:
        assert watch.stdout is not None
        log = next(line for line in watch.stdout if " captured " in line)
        assert "rows=400000" in log
    assert captured_of(s3, file_id)["rows"] == rows
    found, ends = split(rows_topic(), file_id)
    assert found == dealt(file_id, rows)
    assert ends == {partition: {"rows": len(share), "round": 0} for partition, share in found.items()}


def test_the_ends_of_what_is_open_at_the_start_of_watch_are_sent_again(
    folder: Path, env: dict[str, str], s3: S3, topic_prefix: str, broker: Broker
) -> None:
    (folder / "orders.csv").write_bytes(csv(20_000))
    assert millstream("push", "orders.csv", folder=folder, env=env).returncode == 0
    file_id = job_of(s3, "orders.csv")["file_id"]
    emptied = f"{topic_prefix}-emptied"
    with running(["-m", "millstream", "watch"], folder, env | {"MILLSTREAM_TOPIC_PREFIX": emptied}):
        wait_for(lambda: len(split(consume(broker, f"{emptied}.rows"), file_id)[1]) == 3)
    found, ends = split(consume(broker, f"{emptied}.rows"), file_id)
    assert found == {}, "the sink asks for what it lacks"
    assert sum(end["rows"] for end in ends.values()) == 20_000


def test_a_broker_that_doesnt_answer_is_named_within_ten_seconds_and_nothing_is_uploaded(
    folder: Path, s3: S3, topic_prefix: str
) -> None:
    (folder / "orders.csv").write_bytes(csv(3))
    env = environment(Broker("127.0.0.1:1"), s3, topic_prefix)
    started = time.monotonic()
    done = millstream("push", "orders.csv", folder=folder, env=env)
    assert done.returncode == 1
    assert "Kafka at 127.0.0.1:1 does not answer" in done.stderr
    assert time.monotonic() - started < 20, "ten seconds, and the time that a command takes to start"
    assert "Contents" not in s3.client().list_objects_v2(Bucket=s3.uploads)


def wait_for(look: Callable[[], Any], seconds: float = 30) -> Any:
    """Return what `look` finds once it is something; what isn't there yet may raise."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
        except Exception:
            if time.monotonic() > deadline:
                raise
        else:
            if found:
                return found
            assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.1)


def get(s3: S3, key: str) -> bytes | None:
    client = s3.client()
    try:
        body: bytes = client.get_object(Bucket=s3.results, Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        return None
    return body


def listed(s3: S3, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = s3.client().list_objects_v2(Bucket=s3.results, Prefix=prefix)
    return found


def claim_of(s3: S3, name: str) -> dict[str, Any] | None:
    """The claim on the name's job, once some blocks are acknowledged."""
    found = get(s3, f"_millstream/jobs/{job_of(s3, name)['file_id']}/claim.json")
    claim: dict[str, Any] = json.loads(found) if found else {"blocks": 0}
    return claim if claim["blocks"] else None

"""An S3 server whose disk was full is started again once the disk takes bytes."""

import os
from pathlib import Path

import pytest

from millstream import embedded
from millstream.stuck import EVERY, Stuck

REFUSED = (
    "W1123 00:19:06.528754 s3api_object_handlers_delete.go:274 DeleteObjectHandler: routed delete to 127.0.0.1:16384 returned "
    '"mutation 0: delete file /buckets/results/a.json: filer store delete: delete /buckets/results/a.json : '
    'write /data/s3/data/filerldb2/00/000001.log: no space left on device"'
)
NOT_INSERTED = (
    "E1201 14:12:02.640073 filer.go:301 request_id:cdba39b3-56e9-4f1f-874b-13edea6cbcf5 insert entry /buckets/results/a.json: "
    "persisting /buckets/results/a.json : write /my data/s3/data/filerldb2/06/000001.log: no space left on device"
)
ELSEWHERE = "E1123 00:19:06.483198 volume_write.go:1 write /data/s3/data/5.dat: no space left on device"


def test_only_a_journal_that_could_not_be_written_is_for_ever() -> None:
    """What lies in the volumes is written anew with each try."""
    for line in (REFUSED, NOT_INSERTED):
        assert embedded.s3_is_stuck(line)
        assert embedded.s3_is_stuck(line.replace("no space left on device", "file too large"))
    assert not embedded.s3_is_stuck(ELSEWHERE)


def test_it_is_asked_for_once_there_is_room_and_no_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, full = 100.0, True
    stuck = Stuck("s3", tmp_path, now=lambda: now)
    assert not stuck.has_room()
    stuck.note("sink-1", REFUSED)
    stuck.note("s3", ELSEWHERE)
    assert not stuck.has_room()
    stuck.note("s3", REFUSED)

    def write(*_: object, **__: object) -> object:
        if full:
            raise OSError(28, os.strerror(28))
        return open(tmp_path / "probe", "wb", buffering=0)

    monkeypatch.setattr("millstream.stuck.tempfile.TemporaryFile", write)
    assert not stuck.has_room()
    full = False
    assert not stuck.has_room(), "it was looked at just now"
    now += EVERY
    assert stuck.has_room()
    stuck.begin_again()
    now += EVERY
    assert not stuck.has_room()

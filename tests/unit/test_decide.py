"""What an upload is to Millstream."""

from datetime import UTC, datetime

import pytest

from pipeline.jobs import End, NameRecord, Source
from pipeline.store import Head
from producer.decide import Decision, Known, OtherKey, TakeOn, decide

THEN, LATER, EARLIER = (datetime(2026, 1, day, tzinfo=UTC) for day in (10, 20, 1))
JOB = "0" * 32


def head(etag: str = "A", *, key: str = "a.csv", when: datetime = THEN) -> Head:
    return Head(key, etag, 10, when)


def record(etag: str = "A", *, key: str = "a.csv", generation: int = 3) -> NameRecord:
    return NameRecord(
        generation=generation, file_id=JOB, source=Source(key=key, etag=etag, size=10, last_modified=THEN)
    )


def ended(state: str) -> End:
    return End.model_validate({"state": state, "nonce": "x", "ended": THEN})


CASES: list[tuple[str, NameRecord | None, Head, End | None, bool, Decision]] = [
    ("a name never seen is taken on", None, head(), None, False, TakeOn(1)),
    ("also again", None, head(), None, True, TakeOn(1)),
    ("a deleted name's upload is new", NameRecord(generation=4), head(), None, False, TakeOn(5)),
    ("the same content running is known", record(), head(), None, False, Known(JOB)),
    ("the same content published is known", record(), head(), ended("published"), False, Known(JOB)),
    ("also when uploaded anew", record(), head(when=LATER), ended("published"), False, Known(JOB)),
    ("also running, when uploaded anew", record(), head(when=LATER), None, False, Known(JOB)),
    ("again computes it anew", record(), head(), ended("published"), True, TakeOn(4)),
    ("again also while it runs", record(), head(), None, True, TakeOn(4)),
    ("other content is new", record(), head("B"), None, False, TakeOn(4)),
    ("a failed job isn't tried again by itself", record(), head(), ended("failed"), False, Known(JOB)),
    ("but is when uploaded anew", record(), head(when=LATER), ended("failed"), False, TakeOn(4)),
    ("whatever a clock says", record(), head(when=EARLIER), ended("failed"), False, TakeOn(4)),
    ("a cancelled job likewise", record(), head(), ended("cancelled"), False, Known(JOB)),
    ("a cancelled one uploaded anew", record(), head(when=LATER), ended("cancelled"), False, TakeOn(4)),
    ("a superseded end changes nothing", record(), head(when=LATER), ended("superseded"), False, Known(JOB)),
    ("a second key is refused", record(), head(key="a.csv.gz"), None, False, OtherKey("a.csv")),
    ("also again", record(), head("B", key="a.csv.gz"), None, True, OtherKey("a.csv")),
]


@pytest.mark.parametrize(
    ("name", "record", "head", "end", "again", "expected"), CASES, ids=[case[0] for case in CASES]
)
def test_decision(
    name: str, record: NameRecord | None, head: Head, end: End | None, again: bool, expected: Decision
) -> None:
    assert decide(record, head, end, again=again) == expected

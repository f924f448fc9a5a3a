"""How a call of S3 goes out: what boto3 adds to it by itself is measured, and kept where it is worth its time."""

import base64
import hashlib
import io
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline import s3
from pipeline.s3 import S3Store
from pipeline.s3_expect import AT_ONCE
from pipeline.settings import S3Settings
from pipeline.store import PART_SIZE
from tests.wait import wait_until


class Sent(Exception):
    """A call has come as far as the wire."""


@pytest.fixture
def sent() -> list[Any]:
    return []


@pytest.fixture
def store(sent: list[Any]) -> S3Store:
    return _store(sent, "http://127.0.0.1:9")


def _store(sent: list[Any], endpoint: str) -> S3Store:
    """Return a store whose calls end where they would be sent."""
    client = s3.client(S3Settings(endpoint=endpoint, access_key="a", secret_key="b"))

    def send(request: Any, **_: Any) -> None:
        sent.append(request)
        raise Sent

    client.meta.events.register_first("before-send.s3", send)
    return S3Store(client, "results")


@pytest.mark.parametrize(
    ("size", "expect"),
    [(0, None), (1, None), (AT_ONCE, None), (AT_ONCE + 1, "100-continue"), (PART_SIZE, "100-continue")],
)
def test_only_large_bodies_wait_for_the_servers_word(
    store: S3Store, sent: list[Any], size: int, expect: str | None
) -> None:
    with pytest.raises(Sent):
        store.put("orders.csv", b"x" * size)
    value = sent[0].headers.get("Expect")
    assert (value and _text(value)) == expect
    body = sent[0].body
    assert (body.read() if isinstance(body, io.BytesIO) else body or b"") == b"x" * size


def test_a_call_says_who_makes_it(store: S3Store, sent: list[Any]) -> None:
    with pytest.raises(Sent):
        store.head("orders.csv")
    text = _text(sent[0].headers["User-Agent"])
    assert text.startswith("millstream/")
    assert "Boto3/" in text
    assert "Botocore/" in text


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-29T01:45:04Z",
        "2026-07-29T01:45:04.000Z",
        "Wed, 29 Jul 2026 01:45:04 GMT",
        "2026-07-29T03:45:04+02:00",
    ],
)
def test_times_are_read_as_s3_writes_them(text: str) -> None:
    assert s3._time(text) == datetime(2026, 7, 29, 1, 45, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("endpoint", "signed"),
    [
        ("http://127.0.0.1:9", False),
        ("http://127.8.9.1:9", False),
        ("http://localhost:9", False),
        ("http://[::1]:9", False),
        ("http://10.0.0.1:9", True),
        ("http://localhost.example.com:9", True),
        ("http://minio:9000", True),
    ],
)
def test_a_body_is_signed_wherever_somebody_may_get_in_between(
    sent: list[Any], endpoint: str, signed: bool
) -> None:
    with pytest.raises(Sent):
        _store(sent, endpoint).put("orders.csv", b"content")
    headers = {name.lower(): value for name, value in sent[0].headers.items()}
    hashed = hashlib.sha256(b"content").hexdigest()
    assert _text(headers["x-amz-content-sha256"]) == (hashed if signed else "UNSIGNED-PAYLOAD")
    crc = base64.b64encode(zlib.crc32(b"content").to_bytes(4)).decode()
    assert _text(headers["x-amz-checksum-crc32"]) == crc
    assert "x-amz-checksum-crc32" in _text(headers["authorization"])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_an_upload_begins_before_its_second_part_is_there(store: S3Store, sent: list[Any]) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * PART_SIZE
        wait_until(lambda: sent)
        yield b"y"

    with pytest.raises(Sent):
        store.upload("orders.csv", pieces())
    assert sent[0].url.endswith("orders.csv?uploads")

"""Whatever comes as an upload is spooled as UTF-8 text, or refused with what it is and what to do."""

import errno
import gzip
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.dialect import DialectOverrides
from pipeline.errors import InputError, Transient, UsageError
from producer.content import fetch
from producer.spool import Spool, spool
from tests.unit import capture_doubles as doubles

TEXT = "id,name\n1,Zoë\n2,🙂\n".encode()


def chunks(data: bytes, size: int = 7) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def gz(data: bytes) -> bytes:
    """Compress without the time of day, which would be in the names of tests."""
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd"))


def content(spooled: Spool) -> bytes:
    with spooled:
        return spooled.path.read_bytes()


def refusal(data: bytes, directory: Path, key: str = "a.csv", encoding: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        spool(chunks(data, 5000), key, directory, encoding=encoding)
    assert list(directory.iterdir()) == []
    return str(caught.value)


def test_a_plain_file_is_copied_and_hashed(tmp_path: Path) -> None:
    seen: list[int] = []
    spooled = spool(chunks(TEXT), "a.csv", tmp_path, progress=seen.append)
    assert (spooled.sha256, spooled.bytes) == (hashlib.sha256(TEXT).hexdigest(), len(TEXT))
    assert (spooled.text_bytes, spooled.encoding) == (len(TEXT), "utf-8")
    assert seen == sorted(seen)
    assert seen[-1] == len(TEXT)
    assert content(spooled) == TEXT


def test_the_file_is_removed_in_the_end(tmp_path: Path) -> None:
    with spool([TEXT], "a.csv", tmp_path) as spooled:
        assert spooled.path.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("key", "packed"),
    [
        ("a.csv.gz", gz(TEXT)),
        ("a.csv.gz", gz(TEXT[:9]) + gz(b"") + gz(TEXT[9:])),
        ("a.csv.gz", gz(TEXT) + b"\0" * 20),
        ("a.csv.zst", zstd(TEXT)),
        ("a.csv.zst", zstd(TEXT[:9]) + zstd(TEXT[9:])),
    ],
)
def test_compressed_files_are_unpacked_and_hashed_as_they_came(
    tmp_path: Path, key: str, packed: bytes, size: int
) -> None:
    spooled = spool(chunks(packed, size), key, tmp_path)
    assert (spooled.sha256, spooled.bytes) == (hashlib.sha256(packed).hexdigest(), len(packed))
    assert content(spooled) == TEXT


@pytest.mark.parametrize(("key", "pack"), [("a.csv.gz", gz), ("a.csv.zst", zstd)])
def test_damaged_compressed_files_are_refused(
    tmp_path: Path, key: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(random.Random(1).randbytes(5000).hex().encode())
    assert "ends in the middle" in refusal(packed[:-9], tmp_path, key)
    assert "damaged" in refusal(packed[:14] + b"xxxxxxxx" + packed[22:], tmp_path, key)
    assert "damaged" in refusal(packed + b"and more", tmp_path, key)
    assert "content is no " in refusal(TEXT, tmp_path, key)


def test_a_bomb_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    spooled = spool([gz(b"1,2\n" * 5_000_000)], "a.csv.gz", tmp_path)
    with spooled:
        assert spooled.text_bytes == 20_000_000


@pytest.mark.parametrize("error", [ValueError("gone"), OSError("gone")])
@pytest.mark.parametrize("key", ["a.csv", "a.csv.gz", "a.csv.zst"])
def test_a_failing_source_is_no_fault_of_the_file(tmp_path: Path, key: str, error: Exception) -> None:
    packed = {"a.csv": TEXT, "a.csv.gz": gz(TEXT), "a.csv.zst": zstd(TEXT)}[key]

    def broken() -> Iterator[bytes]:
        yield packed[:8]
        raise error

    with pytest.raises(type(error), match="gone") as caught:
        spool(broken(), key, tmp_path)
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\xef\xbb\xbf" + TEXT, "utf-8"),
        (b"\xff\xfe" + TEXT.decode().encode("utf-16-le"), "utf-16-le"),
        (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), "utf-16-be"),
        (b"\xff\xfe\0\0" + TEXT.decode().encode("utf-32-le"), "utf-32-le"),
    ],
)
def test_a_byte_order_mark_tells_the_encoding_and_goes(
    tmp_path: Path, data: bytes, encoding: str, size: int
) -> None:
    spooled = spool(chunks(data, size), "a.csv", tmp_path)
    assert spooled.encoding == encoding
    assert content(spooled) == TEXT


@pytest.mark.parametrize("told", ["utf-16", "utf-16-le", "UTF-16-BE"])
def test_the_mark_decides_which_utf_16_it_is(tmp_path: Path, told: str) -> None:
    spooled = spool([TEXT.decode().encode("utf-16")], "a.csv", tmp_path, encoding=told)
    assert content(spooled) == TEXT


@pytest.mark.parametrize(
    ("told", "codec"),
    [("latin-1", "iso8859-1"), ("windows-1252", "cp1252"), ("cp1250", "cp1250"), ("utf8", "utf-8")],
)
def test_other_encodings_are_told(tmp_path: Path, told: str, codec: str) -> None:
    spooled = spool(chunks("id\nZoë\n".encode(told), 1), "a.csv", tmp_path, encoding=told)
    assert spooled.encoding == codec
    assert content(spooled) == "id\nZoë\n".encode()


def test_an_encoding_of_several_bytes_may_be_cut_anywhere(tmp_path: Path) -> None:
    text = "名前,値\nあ,1\n"
    for size in (1, 2, 5):
        spooled = spool(chunks(text.encode("shift_jis"), size), "a.csv", tmp_path, encoding="shift_jis")
        assert content(spooled) == text.encode()


def test_an_unknown_encoding_is_a_usage_error(tmp_path: Path) -> None:
    for name in ("cp1525", "base64", ""):
        with pytest.raises(UsageError, match="encoding"):
            spool([TEXT], "a.csv", tmp_path, encoding=name)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_text_that_is_not_utf_8_is_refused_with_its_place(tmp_path: Path, size: int) -> None:
    with pytest.raises(InputError) as caught:
        spool(chunks("id\n🙂\nZoë\n".encode()[:-3] + b"\xeb\n", size), "a.csv", tmp_path)
    assert "0xeb at offset 10, line 3; name its encoding, for example --encoding cp1252" in str(caught.value)
    with pytest.raises(InputError, match="offset 3, line 2"):
        spool(chunks(b"id\n\xf0\x9f", size), "a.csv", tmp_path)


def test_text_that_is_not_of_the_told_encoding_is_refused(tmp_path: Path) -> None:
    assert "not cp1252 text: byte 0x81 at offset 4, line 2" in refusal(
        b"id\n1\x81\n", tmp_path, encoding="cp1252"
    )
    assert "not utf-16-le text" in refusal(b"\xff\xfea\0\n", tmp_path)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PK\x03\x04....xl/workbook.xml", "Excel workbook"),
        (b"PK\x03\x04....data.csv", "zip archive"),
        (b"PAR1\x15\0\x15", "Parquet"),
        (b"%PDF-1.4\n", "PDF"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (gz(TEXT), "end its name in .gz"),
        (zstd(TEXT), "end its name in .zst"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel"),
        (b"<!DOCTYPE html><html>", "web page"),
        (bytes(range(256)) * 20, "binary"),
        (b"\0" * 100, "binary"),
        ("id,name\n1,x\n".encode("utf-16-le"), "--encoding utf-16-le"),
        ("id,name\n1,x\n".encode("utf-16-be"), "--encoding utf-16-be"),
    ],
)
def test_what_is_no_text_is_refused_with_what_it_is(tmp_path: Path, data: bytes, kind: str) -> None:
    assert kind in refusal(data, tmp_path)


@pytest.mark.parametrize(
    "data", [b"ORC,PAR1\n1,2\n", b"GIF8\nx\n", b"a,b\n1,x\0y\n2,\0\n", b"a\n\x1a\n", b"a\n"]
)
def test_odd_text_is_still_text(tmp_path: Path, data: bytes) -> None:
    assert content(spool([data], "a.csv", tmp_path)) == data


@pytest.mark.parametrize(
    ("data", "key"),
    [(b"", "a.csv"), (b"\xef\xbb\xbf", "a.csv"), (gz(b""), "a.gz"), (b"", "a.csv.gz")],
)
def test_an_empty_file_is_refused(tmp_path: Path, data: bytes, key: str) -> None:
    assert "is empty" in refusal(data, tmp_path, key)


def test_a_full_disk_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And isn't the upload's fault."""

    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("producer.spool.detect", full)
    with pytest.raises(Transient, match="is full"):
        spool(chunks(TEXT), "a.csv", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_to_is_no_fault_of_the_upload_either(tmp_path: Path) -> None:
    with pytest.raises(
        Transient, match=r"a\.csv is to be copied to .*gone, which can't be written to: No such"
    ):
        spool(chunks(TEXT), "a.csv", tmp_path / "gone")


def test_capture_copies_an_upload_to_the_folder_that_a_setting_names(tmp_path: Path) -> None:
    stage = doubles.stage()
    stage = replace(stage, settings=stage.settings.model_copy(update={"spool": str(tmp_path)}))
    etag = stage.uploads.put("a.csv", TEXT)
    with ExitStack() as contents:
        assert fetch(stage, "a.csv", etag, contents, DialectOverrides()).file.path.parent == tmp_path
    assert list(tmp_path.iterdir()) == []

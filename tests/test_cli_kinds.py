"""Files that are no CSV: they are said to be what they are before anything is said about calculations."""

import gzip
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli import CALCULATION, ORDERS, run


def zipped(*names: str, content: bytes = b"x") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), file)
    return file.getvalue()


KINDS = [
    (
        "book.xlsx",
        zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"),
        "an Excel workbook; save it as CSV",
    ),
    ("book.xlsm", zipped("docProps/app.xml", "xl/workbook.xml"), "an Excel workbook; save it as CSV"),
    ("book.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an old Excel workbook; save it as CSV"),
    (
        "book.ods",
        zipped("mimetype", content=b"application/vnd.oasis.opendocument.spreadsheet"),
        "an OpenDocument spreadsheet; save it as CSV",
    ),
    ("letter.docx", zipped("[Content_Types].xml", "word/document.xml"), "a document of an office program"),
    ("data.zip", zipped("orders.csv"), "a zip archive; unpack it"),
    ("data.parquet", parquet(), "a Parquet file; export it as CSV"),
    ("data.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document; export it as CSV"),
    ("data.json.bz2", b"BZh91AY&SY" + bytes(range(256)), "bzip2 data"),
    ("data.html", b"\n<!DOCTYPE html><html></html>", "a web page"),
    ("data.xml", b'<?xml version="1.0"?><a/>', "an XML document"),
    ("packed.txt", gzip.compress(ORDERS.encode()), "gzip data; end its name in .gz"),
    ("book.xlsx.gz", gzip.compress(zipped("xl/workbook.xml")), "an Excel workbook; save it as CSV"),
]


@pytest.mark.parametrize("command", ["push", "init", "preview", "try"])
@pytest.mark.parametrize("flags", [(), ("--encoding", "latin-1")], ids=["", "told"])
@pytest.mark.parametrize(("file", "content", "message"), KINDS, ids=[kind[0] for kind in KINDS])
def test_what_is_no_csv_is_said_to_be_what_it_is(
    file: str, content: bytes, message: str, flags: tuple[str, ...], command: str, folder: Path
) -> None:
    (folder / "millstream.toml").write_text(CALCULATION)
    (folder / file).write_bytes(content)
    done = run(command, file, *flags)
    assert done.exit_code == 1
    assert f"{file} is no CSV: it seems to be {message}" in done.stderr
    assert "calculation" not in done.stderr
    assert (folder / "millstream.toml").read_text() == CALCULATION


@pytest.mark.parametrize("command", ["push", "try"])
def test_so_is_a_binary_file_of_an_unknown_kind_that_no_calculation_matches(
    command: str, folder: Path
) -> None:
    (folder / "data.bin").write_bytes(bytes(range(256)) * 10)
    done = run(command, "data.bin")
    assert done.exit_code == 1
    assert "data.bin is no CSV: it seems to be binary" in done.stderr


def test_compressed_csv_is_read_as_before(folder: Path) -> None:
    (folder / "millstream.toml").write_text(CALCULATION)
    (folder / "orders.csv.gz").write_bytes(gzip.compress(ORDERS.encode()))
    done = run("try", "orders.csv.gz")
    assert done.exit_code == 0, done.stderr
    assert "29.97" in done.stdout


def test_a_pipe_is_read_once(folder: Path) -> None:
    """What stands in it can't be looked at first."""
    (folder / "millstream.toml").write_text(CALCULATION.replace("*.csv", "*"))
    done = subprocess.run(
        [sys.executable, "-m", "millstream", "try", "/dev/stdin"],
        input=ORDERS,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert "29.97" in done.stdout

"""Says what an upload's first bytes are, and turns its text into UTF-8.

UTF-8 is expected. A byte order mark tells UTF-16 and UTF-32; every other encoding has to be named. What is no
text at all is refused with what it seems to be.
"""

import codecs
import itertools
from collections.abc import Iterator

from pipeline.errors import InputError, UsageError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_EXPORT = "export it as CSV"
_ZIP = b"PK\x03\x04"
_KINDS = (
    (_ZIP, "a zip archive", "unpack it and upload the CSV in it"),
    (b"PAR1", "a Parquet file", _EXPORT),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"\x89PNG", "a PNG image", "upload a CSV file"),
    (b"\xff\xd8\xff", "a JPEG image", "upload a CSV file"),
    (b"GIF8", "a GIF image", "upload a CSV file"),
    (b"\x1f\x8b", "gzip data", "end its name in .gz"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "end its name in .zst"),
    (b"BZh", "bzip2 data", "compress it with gzip or zstd"),
    (b"\xfd7zXZ\0", "xz data", "compress it with gzip or zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and upload the CSV in it"),
    (b"PK\x05\x06", "an empty zip archive", "upload a CSV file"),
    (b"Rar!", "a RAR archive", "unpack it and upload the CSV in it"),
    (b"{\\rtf", "a document of an office program", _EXPORT),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save it as CSV UTF-8"),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"ARROW1", "an Arrow file", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"ORC", "an ORC file", _EXPORT),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"\x7fELF", "a program", "upload a CSV file"),
)
_SHEET = "save it as CSV UTF-8"
_ZIPPED = (
    ((b"xl/", b"spreadsheetml"), "an Excel workbook", _SHEET),
    ((b"opendocument.spreadsheet",), "an OpenDocument spreadsheet", _SHEET),
    ((b"Index/Document.iwa", b"Index/Tables/"), "a Numbers spreadsheet", _EXPORT),
    ((b"word/", b"ppt/", b"opendocument.", b"epub+zip"), "a document of an office program", _EXPORT),
    ((b"[Content_Types].xml",), "an Excel workbook", _SHEET),  # its further names may be far behind
)
"""What zip archives are, by what stands in them."""

_SUGGESTION = "name its encoding, for example --encoding cp1252 (Windows), latin-1, cp1250 or shift_jis"
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x01\x1a\x1b\x1c\x1d\x1e\x1f"))  # ^A, FS to US are delimiters


def known_encoding(name: str) -> str:
    """Return the Python codec's own name for an encoding; raise UsageError for one there isn't."""
    try:
        codec = codecs.lookup(name)
        if not getattr(codec, "_is_text_encoding", True):
            raise LookupError(name)
    except (LookupError, ValueError):
        raise UsageError(
            f"encoding {name!r} is not known; utf-8, utf-16, latin-1, cp1252 or shift_jis would be"
        ) from None
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def detect(head: bytes, key: str, told: str | None) -> tuple[str, int]:
    """Return the encoding of a file that begins with `head`, and the length of its byte order mark.

    `told` settles the encoding. Raises InputError for what is no text.
    """
    if told is not None:
        encoding = known_encoding(told)
        family = encoding.removesuffix("-le").removesuffix("-be")
        for mark, marked in _MARKS:
            if head.startswith(mark) and marked.startswith(family):
                return marked, len(mark)
        refuse_known(head, key)
        return encoding, 0
    for mark, marked in _MARKS:
        if head.startswith(mark):
            return marked, len(mark)
    _refuse_binary(head, key)
    return "utf-8", 0


def refuse_known(head: bytes, key: str) -> None:
    """Raise InputError for a file that begins as a known kind does which is no CSV, saying what to do with it."""
    binary = not head[:512].isascii() or b"\0" in head[:512]
    inside = [found for signs, *found in _ZIPPED if any(sign in head for sign in signs)]
    for magic, *found in _KINDS:
        if head.startswith(magic) and (binary or not magic.isalnum()):  # a header may begin with ORC
            kind, advice = inside[0] if inside and magic == _ZIP else found
            raise InputError(f"{key} is no CSV: it seems to be {kind}; {advice}")
    if head[257:262] == b"ustar":
        raise InputError(f"{key} is no CSV: it seems to be a tar archive; upload the CSV in it")
    start = head[:1024].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise InputError(f"{key} is no CSV: it seems to be a web page; download the file itself")
    if start.startswith(b"<?xml"):
        raise InputError(f"{key} is no CSV: it seems to be an XML document; {_EXPORT}")


def _refuse_binary(head: bytes, key: str) -> None:
    refuse_known(head, key)
    if (nulls := head.count(0)) and len(head) > 3:
        even, odd = head[::2].count(0), head[1::2].count(0)
        if nulls > len(head) / 3 and min(even, odd) * 10 < nulls:
            guess = "utf-16-le" if odd > even else "utf-16-be"
            raise InputError(f"{key} seems to be UTF-16 without a byte order mark: use --encoding {guess}")
    control = len(head) - len(head.translate(None, _CONTROL))
    if control > len(head) * (0.05 if len(head) >= 256 else 0.3):
        share = f"{control:,} of its first {len(head):,} bytes are control codes"
        raise InputError(f"{key} is no CSV: it seems to be binary, {share}")


def as_utf8(chunks: Iterator[bytes], key: str, encoding: str, skipped: int) -> Iterator[bytes]:
    """Yield the text in UTF-8. `skipped` bytes of the file, its mark, came before `chunks`.

    Raises InputError at the first bytes that aren't of the encoding, naming their place and line.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset, line = skipped, 1
    for chunk, final in itertools.chain(((chunk, False) for chunk in chunks), ((b"", True),)):
        held = decoder.getstate()[0]
        if encoding == "utf-8" and not held and chunk.isascii():
            text = chunk
        else:
            try:
                text = decoder.decode(chunk, final).encode()
            except UnicodeError as error:
                raise _undecodable(error, key, encoding, offset - len(held), line) from None
        if text:
            yield text
        offset += len(chunk)
        line += text.count(b"\n")


def _undecodable(error: UnicodeError, key: str, encoding: str, offset: int, line: int) -> InputError:
    """Return the error for bytes that aren't of the encoding, in data that begins at `offset` in `line`."""
    name, advice = encoding, "it has another encoding, or is damaged"
    if encoding == "utf-8":
        name, advice = "UTF-8", _SUGGESTION
    if not isinstance(error, UnicodeDecodeError):
        return InputError(f"{key} is not {name} text, at about offset {offset:,}, line {line:,}; {advice}")
    line += error.object[: error.start].count(b"\n")
    wrong = error.object[error.start : error.start + 1].hex()
    where = f"byte 0x{wrong} at offset {offset + error.start:,}, line {line:,}"
    return InputError(f"{key} is not {name} text: {where}; {advice}")

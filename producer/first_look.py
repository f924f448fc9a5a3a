"""What a file is, before anything is asked of it that only makes sense for a CSV file, as a calculation for it."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.calculations import Calculation, choose
from pipeline.errors import CalculationError
from producer.encodings import detect, refuse_known
from producer.local import chunks, require
from producer.unpack import unpacked

_HEAD = 64 * 1024
"""Bytes that tell what a file is."""


def look(path: Path) -> bytes:
    """Return a file's first bytes, unpacked as its suffix says; none of a pipe, which can be read only once.

    Raises InputError where there is no file to be read, and where it is evidently no CSV: a workbook, an archive, …
    """
    require(path)
    if not path.is_file():
        return b""
    head = b""
    for piece in unpacked(chunks(path), str(path)):
        head += piece
        if len(head) >= _HEAD:
            break
    refuse_known(head[:_HEAD], str(path))
    return head[:_HEAD]


def calculation_for(
    path: Path, name: str, calculations: Iterable[Calculation], encoding: str | None
) -> Calculation:
    """Return the calculation for the file at `path`, which is called `name`; `encoding` is the file's, where it is known.

    Raises InputError where it is no CSV, and only then CalculationError where there is no calculation.
    """
    head = look(path)
    try:
        return choose(calculations, name)
    except CalculationError:
        if head:
            detect(head, str(path), encoding)
        raise

"""Where a fetched result is written: a file whole or not at all, never over one that is there unless that is wanted."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import Permanent

STDOUT = "-"


def file_for(output: str, name: str, *, force: bool) -> Path:
    """Return the file that the result of `name` goes to where `output` was asked for, a file or a folder.

    In a folder it is called as `result_name` says, so that it never meets the upload itself. Raises Permanent where nothing
    can be written there, or where a file is there already and `force` is false.
    """
    path = Path(output)
    if output.endswith("/") and not path.is_dir():
        raise Permanent(f"{output}: there is no such folder; make it, or name a file")
    target = path / result_name(name) if path.is_dir() else path
    if target.is_dir():
        raise Permanent(f"{target}: is a folder; name a file with -o")
    if not target.parent.is_dir():
        raise Permanent(f"{target}: there is no folder {target.parent}; make it, or name another file")
    if not force and os.path.lexists(target) and not _is_special(target):
        raise _there(target)
    return target


def result_name(name: str) -> str:
    """Return what the result of a file is called in a folder: `orders.results.csv` for `2024/orders.csv`."""
    last = name.rpartition("/")[2]
    stem = last[: -len(".csv")] if last.lower().endswith(".csv") and len(last) > len(".csv") else last
    return f"{stem}.results.csv"


def write(target: Path, chunks: Iterable[bytes], *, force: bool) -> None:
    """Write the chunks to the file: to one beside it first, which then takes its place.

    What broke off half way leaves what was there. A device or a pipe is written to as it is. Raises OSError naming the target;
    Permanent where a file has come there meanwhile, and `force` is false.
    """
    target = Path(os.path.realpath(target)) if force or _is_special(target) else target
    fresh = target.with_name(f".millstream-{os.getpid()}.part")
    try:
        if _is_special(target):
            with target.open("wb") as file:
                _copy(chunks, file)
            return
        with fresh.open("wb") as file:
            _copy(chunks, file)
        if force:
            if target.exists():
                shutil.copymode(target, fresh)
            fresh.replace(target)
        else:
            _put(fresh, target)
    except FileExistsError:
        raise _there(target) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None  # not the name that nobody gave
    finally:
        if not _is_special(target):
            fresh.unlink(missing_ok=True)


def _copy(chunks: Iterable[bytes], file: BinaryIO) -> None:
    for chunk in chunks:
        file.write(chunk)
    file.flush()


def _put(fresh: Path, target: Path) -> None:
    """Give the file its name, unless it is taken; a file system without hard links can't say that in one step."""
    try:
        os.link(fresh, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError from None
        fresh.replace(target)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _there(target: Path) -> Permanent:
    return Permanent(f"{target} is there already; --force replaces it, or name another file with -o")

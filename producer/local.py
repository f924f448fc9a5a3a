"""Local files, as chunks of bytes."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.store import READ_CHUNK


def require(path: Path) -> None:
    """Raise InputError where there is no file to be read."""
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise _unreadable(path, error) from None


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes; raise InputError where it can't be read."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(READ_CHUNK):
                yield chunk
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> InputError:
    match error:
        case FileNotFoundError():
            return InputError(f"{path}: there is no such file")
        case IsADirectoryError():
            return InputError(f"{path} is a folder; name the files in it")
        case _:
            return InputError(f"{path} can't be read: {error.strerror}")

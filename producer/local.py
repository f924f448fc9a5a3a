"""Local files, as chunks of bytes."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError
from pipeline.store import READ_CHUNK


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes; raise InputError where it can't be read."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(READ_CHUNK):
                yield chunk
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; name the files in it") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None

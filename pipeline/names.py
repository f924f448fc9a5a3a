"""What a file may be called, and which key of the uploads bucket it came from.

A *name* is the key of the upload without its compression suffix: `2024/orders.csv.gz` is `2024/orders.csv`.
"""

from pipeline.errors import NameRefused

COMPRESSIONS = (".gz", ".zst")
"""Suffixes of compressed uploads; what they say is trusted and checked when the upload is read."""

OURS = "_millstream/"
"""Everything of ours in the results bucket lies under this prefix, so no name may start with it."""

LONGEST = 900
"""Bytes of UTF-8: S3 takes 1,024 for a key, and ours put up to 30 around a name."""


def check_name(name: str) -> str:
    """Return `name` if a file can be called that; raise NameRefused saying why not otherwise."""
    if not name:
        raise NameRefused("a name can't be empty: say what the file is to be called, as in --name orders.csv")
    parts = name.split("/")
    if name.startswith("/"):
        raise NameRefused(f"name {name!r}: no leading slash; {name.lstrip('/')!r} would be right")
    if ".." in parts or "." in parts or "" in parts:
        raise NameRefused(f"name {name!r}: no empty, '.' or '..' between slashes; name the file itself")
    if name.startswith(OURS) or name == OURS.rstrip("/"):
        raise NameRefused(f"name {name!r}: {OURS!r} is kept for Millstream's own objects; use another folder")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise NameRefused(f"name {name!r}: no control characters")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise NameRefused(f"name {name!r}: not valid Unicode") from None
    if size > LONGEST:
        raise NameRefused(f"name of {size} bytes: at most {LONGEST} fit beside Millstream's own keys on S3")
    return name


def name_of(key: str) -> str:
    """Return the name of the upload at `key`; raise NameRefused where it can't be one."""
    for suffix in COMPRESSIONS:
        if key.endswith(suffix):
            return check_name(key.removesuffix(suffix))
    return check_name(key)

"""Names and texts as SQL has them; pure text, so that settings are read without DuckDB."""

from collections.abc import Sequence


def quote(name: str) -> str:
    """Return an identifier as SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a string as SQL, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"


def fold(name: str) -> str:
    """Return what DuckDB compares names by: letters of ASCII are the same in upper and lower case, no
    others."""
    if name.isascii():
        return name.lower()
    return "".join(c.lower() if c.isascii() else c for c in name)


def free_prefix(taken: Sequence[str]) -> str:
    """Return a prefix that no name in `taken` begins with, for columns of our own beside a file's."""
    folded = [fold(name) for name in taken]
    prefix = "_ms"
    while any(name.startswith(prefix) for name in folded):
        prefix += "_"
    return prefix

"""Header values that need care: names in any script, and links between pages."""

from urllib.parse import quote, urlencode

ANSWER_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
"""In every answer: a CSV is never taken for a page."""

EXPOSED = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "Millstream-File-Id",
    "Millstream-Generation",
    "Millstream-Rows",
    "Millstream-State",
    "Retry-After",
)
"""What scripts of other origins may read of an answer, beside what they always may."""


_TABLES = (".csv", ".tsv", ".txt")
"""What the file's own name may end with; it is left out where something else stands beside it."""


def beside(name: str, what: str) -> str:
    """Return what something made of a file is saved as: `orders.results.csv` for `2024/orders.csv`, `results.csv`.

    It is never the file's own name: whoever saves a result in the folder of its input would write over that.
    """
    last = name.rpartition("/")[2]
    ending = next((ending for ending in _TABLES if last.lower().endswith(ending)), "")
    return f"{last[: len(last) - len(ending)]}.{what}"


def attachment(file_name: str) -> str:
    """Return a Content-Disposition that saves under `file_name` (RFC 6266): in ASCII for old clients, then as it is."""
    return _disposition("attachment", file_name)


def inline(file_name: str) -> str:
    """Return a Content-Disposition that shows the content, and saves it under `file_name` where it is saved."""
    return _disposition("inline", file_name)


def _disposition(kind: str, file_name: str) -> str:
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in file_name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def path(*parts: str) -> str:
    """Return an address on this server, percent-encoded; slashes of a name stay."""
    return "/" + "/".join(quote(part, safe="/") for part in parts)


def next_page(route: str, **parameters: str | int | None) -> str:
    """Return a Link header to the page after this one (RFC 8288); parameters that are None are left out."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f'<{route}?{urlencode(given)}>; rel="next"'

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


def attachment(file_name: str) -> str:
    """Return a Content-Disposition that saves under `file_name` (RFC 6266): in ASCII for old clients, then as it is."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in file_name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def path(*parts: str) -> str:
    """Return an address on this server, percent-encoded; slashes of a name stay."""
    return "/" + "/".join(quote(part, safe="/") for part in parts)


def next_page(route: str, **parameters: str | int | None) -> str:
    """Return a Link header to the page after this one (RFC 8288); parameters that are None are left out."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f'<{route}?{urlencode(given)}>; rel="next"'

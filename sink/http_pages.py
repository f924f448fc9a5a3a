"""The two pages for people: the list of files, and the routes. No script and nothing from elsewhere."""

from collections.abc import Iterable
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pipeline.states import State
from sink.http_access import MayRead
from sink.http_headers import next_page, path
from sink.http_jobs import After, Prefix
from sink.http_reader import TheReader

router = APIRouter(include_in_schema=False)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
}

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; vertical-align: top }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums }
code, pre { font-family: ui-monospace, monospace }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8884; border-radius: .3rem }
"""


@router.api_route("/", methods=["GET", "HEAD"], dependencies=[MayRead])
async def files(request: Request, reader: TheReader, prefix: Prefix = "", after: After = "") -> HTMLResponse:
    """Show the files, a hundred to a page."""
    states, more = await reader.catalogue.page(prefix, after, 100)
    rows = "\n".join(_row(state) for state in states)
    table = (
        '<div class="wide"><table><thead><tr><th>File<th>State<th class="figure">Rows<th class="figure">Results'
        f'<th class="figure">Rejected<th class="figure">Bytes</thead><tbody>{rows}</tbody></table></div>'
    )
    nothing = (
        "<p>No files yet. Drop a CSV into the uploads bucket, or upload one:</p><pre>"
        f"curl -T orders.csv {escape(str(request.base_url))}uploads/orders.csv</pre>"
    )
    onward = (
        f'<p><a href="{escape(_address(next_page("/", prefix=prefix, after=more)))}">Next page</a></p>'
        if more
        else ""
    )
    return _page("Files", (table if states else nothing) + onward)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> HTMLResponse:
    """Show the routes as OpenAPI has them."""
    parts = [
        _operation(method.upper(), route, operation)
        for route, methods in request.app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]
    intro = '<p>For programs: <a href="/openapi.json">/openapi.json</a>. Errors are problem details (RFC 9457).</p>'
    return _page("Routes", intro + "\n".join(parts))


def _row(state: State) -> str:
    done = state.served
    links = ""
    if done is not None and done.output is not None:
        wanted = [
            ("results", "CSV"),
            ("receipts", "receipt"),
            *([("rejects", "rejects")] if done.rejected else []),
        ]
        links = "<br>" + " · ".join(
            f'<a href="{escape(path(route, state.name))}">{text}</a>' for route, text in wanted
        )
    figures = (
        [done.rows, done.results, done.rejected, done.output.size if done.output else 0]
        if done
        else [None] * 4
    )
    cells = "".join(f'<td class="figure">{"" if figure is None else f"{figure:,}"}' for figure in figures)
    job = escape(path("jobs", state.name))
    summary = state.summary + (
        "; the older result is served" if state.served and state.state != "published" else ""
    )
    return f'<tr><td><a href="{job}">{escape(state.name)}</a>{links}<td>{escape(summary)}{cells}'


def _operation(method: str, route: str, operation: dict[str, Any]) -> str:
    said = escape(operation.get("description", ""))
    parameters = [
        f"<li><code>{escape(item['name'])}</code> ({escape(item['in'])}): {escape(item.get('description', ''))}"
        for item in operation.get("parameters", ())
    ]
    answers = [
        f"<li><code>{escape(status)}</code> {escape(answer.get('description', ''))}"
        for status, answer in sorted(operation["responses"].items())
    ]
    return (
        f"<h2><code>{method} {escape(route)}</code></h2><p>{escape(operation.get('summary', ''))}. {said}</p>"
        f"{_list(parameters)}{_list(answers)}"
    )


def _list(items: Iterable[str]) -> str:
    found = "".join(items)
    return f"<ul>{found}</ul>" if found else ""


def _address(link: str) -> str:
    return link.partition(">")[0].removeprefix("<")


def _page(title: str, body: str) -> HTMLResponse:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} · Millstream</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f'<h1>{title}</h1><nav><a href="/">Files</a> · <a href="/docs">Routes</a></nav>{body}</html>'
    )
    return HTMLResponse(text, headers=_HEADERS)

"""The pages for people: the files, one file, a calculation tried, and the routes. All of it works without a script.

What moves, moves by `static/app.js`; nothing is loaded from elsewhere, and the policy in the headers forbids it.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import layout
from pipeline.errors import MillstreamError
from pipeline.figures import Figures, figures
from pipeline.jobs import Captured, Job
from pipeline.records import read
from pipeline.states import State
from sink import http_words as words
from sink.http_access import MayRead
from sink.http_headers import path
from sink.http_preview import REASONS, Preview, preview
from sink.http_problems import status_of
from sink.http_reader import Reader, TheReader
from sink.http_spark import HEIGHT, SAMPLES, WIDTH, spark

router = APIRouter(include_in_schema=False)

PAGE = 50
"""Files on a page."""

_HERE = Path(__file__).parent
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store", "X-Frame-Options": "DENY"}

Search = Annotated[str, Query(description="only names with this in them", max_length=1024)]
Sort = Literal["changed", "name", "size"]


@router.api_route("/", methods=["GET", "HEAD"], dependencies=[MayRead])
async def files(
    request: Request, reader: TheReader, q: Search = "", sort: Sort = "changed", page: int = 1
) -> HTMLResponse:
    """Show the files, fifty to a page; the latest first, unless they are sorted by name."""

    async def show() -> HTMLResponse:
        at = max(1, min(page, 100_000))
        states, count = await reader.catalogue.search(
            q, sort, descending=sort != "name", offset=(at - 1) * PAGE, limit=PAGE
        )
        rows = [(state, await _figures(reader, state)) for state in states]
        pages = max(1, -(-count // PAGE))

        def link(number: int) -> str:
            given = {"q": q, "sort": sort if sort != "changed" else "", "page": number if number > 1 else ""}
            return "/?" + urlencode({name: value for name, value in given.items() if value})

        return _page(
            request,
            "files.html",
            rows=rows,
            count=count,
            q=q,
            sort=sort,
            page=at,
            pages=pages,
            link=link,
            processes=reader.picture.processes(),
            trouble=reader.settings_trouble(),
            address=str(request.base_url),
            patterns=[calculation.match for calculation in reader.calculations()],
        )

    return await _guarded(request, show)


@router.api_route("/files/{name:path}", methods=["GET", "HEAD"], dependencies=[MayRead])
async def file(request: Request, reader: TheReader, name: str) -> HTMLResponse:
    """Show one file: how far it is, what came of its first rows, and its account."""

    async def show() -> HTMLResponse:
        state = await reader.look(name)
        if state.state in ("unknown", "deleted"):
            text = f"{name} was deleted." if state.state == "deleted" else f"There is no file called {name}."
            return _page(request, "error.html", 404, title="No such file", text=text)
        job, captured, seen = state.job, state.captured, None
        if state.file_id is not None:
            job, captured, seen = await reader.call(lambda: _content(reader, state))
        found = reader.picture.job(state.file_id) if state.file_id else None
        return _page(
            request,
            "file.html",
            state=state,
            trouble=reader.settings_trouble(),
            figures=figures(state, found, reader.picture.processes(), datetime.now(UTC)),
            job=job,
            captured=captured,
            preview=seen,
            shown=REASONS,
            calculation=_toml(job) if job else None,
            spark=spark(found.history) if found and len(found.history) > 1 else None,
            seconds=SAMPLES,
            width=WIDTH,
            height=HEIGHT,
        )

    return await _guarded(request, show)


@router.api_route("/try", methods=["GET", "HEAD"], dependencies=[MayRead])
async def trial(request: Request) -> HTMLResponse:
    """Let somebody try a calculation on a file of theirs."""
    return _page(request, "try.html", possible=request.app.state.trial is not None)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> HTMLResponse:
    """Show the routes in the order that OpenAPI has them in, but what deletes at the end."""
    operations = [
        (method.upper(), route, operation)
        for route, methods in request.app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(key=lambda operation: operation[0] == "DELETE")
    return _page(request, "routes.html", operations=operations)


@router.api_route("/static/{file}", methods=["GET", "HEAD"])
async def static(request: Request, file: str) -> Response:
    """Give a part of the pages."""
    found = _parts().get(file)
    if found is None:
        return _page(request, "error.html", 404, title="Not here", text=f"There is no /static/{file}.")
    content, kind, tag = found
    headers = {"ETag": f'"{tag}"', "Cache-Control": "public, max-age=31536000, immutable"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


@lru_cache(maxsize=1)
def _parts() -> dict[str, tuple[bytes, str, str]]:
    """Return the static files: content, type, and a tag that is another when the content is."""
    found = {}
    for item in sorted((_HERE / "static").iterdir()):
        content = item.read_bytes()
        found[item.name] = (content, _KINDS[item.suffix], blake2b(content, digest_size=8).hexdigest())
    return found


def _part(name: str) -> str:
    return f"/static/{name}?{_parts()[name][2]}"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=words.number,
        size=words.size,
        duration=words.duration,
        ago=words.ago,
        chip=words.chip,
        label=words.label,
    )
    made.globals.update(path=path, part=_part, changed=words.changed)
    return made


def _page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    text = (
        _environment()
        .get_template(template)
        .render(
            here=request.url.path, guarded=request.app.state.reader.settings.http.token is not None, **values
        )
    )
    return HTMLResponse(text, status, headers=_HEADERS)


async def _guarded(request: Request, show: Callable[[], Any]) -> HTMLResponse:
    """Show what went wrong as a page, too, with what to do about it."""
    try:
        found = await show()
        assert isinstance(found, HTMLResponse)
        return found
    except MillstreamError as error:
        title = "The files can't be reached at the moment"
        return _page(request, "error.html", status_of(error), title=title, text=f"{error}.")


async def _figures(reader: Reader, state: State) -> Figures:
    found = reader.picture.job(state.file_id) if state.file_id and state.pending else None
    return figures(state, found, reader.picture.processes() if state.pending else [], datetime.now(UTC))


def _content(reader: Reader, state: State) -> tuple[Job | None, Captured | None, Preview | None]:
    assert state.file_id is not None
    job = state.job or read(reader.results, layout.job(state.file_id), Job)
    captured = state.captured or read(reader.results, layout.captured(state.file_id), Captured)
    own = state.served if state.state == "published" else None
    return job, captured, preview(reader.uploads, reader.results, job, own) if job else None


def _toml(job: Job) -> str:
    """Return a job's calculation as millstream.toml has it."""

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    def table(values: dict[str, str]) -> str:
        return "{ " + ", ".join(f"{_bare(name)} = {text(value)}" for name, value in values.items()) + " }"

    used = job.calculation
    lines = [f"[calculations.{_bare(used.label or 'mine')}]", f"match = {text(used.match)}"]
    lines.append(f"id = {text(used.id[0] if len(used.id) == 1 else list(used.id))}")
    if used.columns:
        lines.append(f"columns = {table(used.columns)}")
    if used.nulls != ("",):
        lines.append(f"nulls = {text(list(used.nulls))}")
    if used.python is not None:
        lines += [f"python = {text(used.python)}", f"version = {text(used.version)}"]
    return "\n".join([*lines, f"outputs = {table(dict(used.outputs))}"])


def _bare(name: str) -> str:
    return name if name.replace("_", "a").replace("-", "a").isalnum() and name.isascii() else json.dumps(name)

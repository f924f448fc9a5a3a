"""How content is sent: in which of its forms, whole, in part, or not again; straight from S3, or through a spool."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from fastapi import Request, Response

from pipeline.jobs import Job, Receipt
from pipeline.states import State
from pipeline.store import READ_CHUNK
from sink.http_coding import WORTH, encoded
from sink.http_conditional import evaluate, http_date, named, range_holds
from sink.http_formats import converted
from sink.http_headers import attachment, inline
from sink.http_negotiation import MEDIA_TYPES, Coding, Format, codings_of, format_of
from sink.http_problems import Trouble
from sink.http_ranges import BOUNDARY, Unsatisfiable, content_range, frames, stretches
from sink.http_ranges import Stretch as Range
from sink.http_reader import Reader
from sink.http_source import Source
from sink.http_spool import LARGEST, Spooled
from sink.http_stream import Framed, Made, Pieces, Stretch, download

MAKING = 16
"""Forms that are made at a time: compressed, or converted. Whoever wants another one then gets it as it lies, or a 503."""


@dataclass(frozen=True, slots=True)
class Content:
    """What can be sent: an object on S3, or, where `data` is there, these bytes.

    `job` gives the job whose output it is, where it may be had in other formats than CSV, too; `format` is the one that the
    client asks for by `?format=`. `file_name` is what a client saves it as, and `shown` whether a browser shows it instead.
    """

    sha256: str
    size: int
    media_type: str
    file_name: str
    shown: bool = False
    key: str | None = None
    data: bytes | None = None
    job: Callable[[], Awaitable[Job]] | None = None
    format: Format | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """One of the forms that content can be sent in; `etag` is without quotes."""

    format: Format
    coding: Coding
    etag: str

    @property
    def plain(self) -> bool:
        """Whether it is sent as it lies."""
        return self.format == "csv" and self.coding == "identity"


async def send(
    request: Request, reader: Reader, state: State, receipt: Receipt, content: Content
) -> Response:
    """Answer with the content, ranges of it, or the news that the client has it already."""
    form = _form(request, reader, receipt, content)
    headers = _headers(reader, state, receipt, content, form)
    verdict = evaluate(request.headers, form.etag, receipt.published)
    if verdict == "not modified":
        return Response(None, 304, headers)
    if verdict == "precondition failed":
        raise Trouble(
            412, f"{receipt.name} is generation {receipt.generation} by now", {"ETag": headers["ETag"]}
        )
    if form.plain:
        return await _as_it_lies(request, reader, receipt, content, headers)
    return await _made(request, reader, receipt, content, form, headers)


async def _as_it_lies(
    request: Request, reader: Reader, receipt: Receipt, content: Content, headers: dict[str, str]
) -> Response:
    status, ranges = 200, None
    if request.method == "GET" and _range_holds(request, receipt, content):
        try:
            ranges = stretches(request.headers.get("range"), content.size)
        except Unsatisfiable:
            whole = {"Content-Range": f"bytes */{content.size}", "ETag": headers["ETag"]}
            raise Trouble(416, f"{receipt.name} has {content.size} bytes", whole) from None
    headers |= {"Content-Type": content.media_type, "Content-Length": str(content.size)}
    between: list[bytes] = []
    if ranges is not None:
        status = 206
        length = sum(length for _, length in ranges)
        if len(ranges) == 1:
            headers["Content-Range"] = content_range(*ranges[0], content.size)
        else:
            between = frames(ranges, content.size, content.media_type)
            length += sum(map(len, between))
            headers["Content-Type"] = f"multipart/byteranges; boundary={BOUNDARY}"
        headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        return Response(None, status, headers)
    if content.data is not None:
        parts = [content.data[start : start + length] for start, length in ranges or [(0, content.size)]]
        return Response(_joined(between, parts), status, headers)
    return await _download(reader, content, status, headers, ranges, between)


async def _download(
    reader: Reader,
    content: Content,
    status: int,
    headers: dict[str, str],
    ranges: list[Range] | None,
    between: list[bytes],
) -> Response:
    tag = content.sha256 if ranges is None else ""
    seat = reader.seat(tag)
    wanted = [_source(reader, content, start, length) for start, length in ranges or [(0, content.size)]]
    pieces: Pieces
    # What somebody else fetches, too, is read from S3 once; what is small isn't worth a file.
    shared = reader.underway[content.sha256] > 1 or reader.spools.find(content.sha256) is not None
    if ranges is None and shared and READ_CHUNK < content.size <= LARGEST:
        pieces = Spooled(reader.spools, content.sha256, partial(_whole, wanted[0]), reader.piece)
    elif between:
        pieces = Framed(between, [Stretch(reader, source) for source in wanted])
    else:
        pieces = Stretch(reader, wanted[0])
    return await download(pieces, seat, status, headers)


async def _made(
    request: Request,
    reader: Reader,
    receipt: Receipt,
    content: Content,
    form: Form,
    headers: dict[str, str],
) -> Response:
    """Answer with a form that has to be made: nobody knows its length before."""
    media_type = MEDIA_TYPES[form.format] if form.format != "csv" else content.media_type
    headers |= {"Content-Type": media_type}
    if form.coding != "identity":
        headers["Content-Encoding"] = form.coding
    spool = reader.spools.find(form.etag)
    if spool is not None and spool.done and spool.error is None:
        headers["Content-Length"] = str(spool.size)
    if request.method == "HEAD":
        answer = Response(None, 200, headers)
        if "Content-Length" not in headers:
            del answer.headers["content-length"]
        return answer
    if spool is None and reader.making() >= MAKING:
        raise Trouble(503, "as much is being converted as may be: ask again", {"Retry-After": "5"})
    job = await content.job() if form.format != "csv" and content.job is not None else None
    make = partial(_make, _source(reader, content, 0, content.size), form, job, reader.settings.message_bytes)
    pieces: Pieces
    if content.size <= LARGEST:
        pieces = Spooled(reader.spools, form.etag, make, reader.piece)
    else:
        pieces = Made(reader, make)
    seat = reader.seat(form.etag)
    return await download(pieces, seat, 200, headers)


def _make(source: Source, form: Form, job: Job | None, longest_row: int) -> Generator[bytes]:
    with closing(_whole(source)) as pieces:
        made = pieces if job is None else converted(form.format, job, pieces, longest_row)
        yield from encoded(form.coding, made)


def _whole(source: Source) -> Generator[bytes]:
    try:
        source.open()
        while piece := source.read(READ_CHUNK):
            yield piece
    finally:
        source.close()


def _source(reader: Reader, content: Content, start: int, length: int) -> Source:
    assert content.key is not None
    return Source(reader.results, content.key, content.size, start, length)


def _form(request: Request, reader: Reader, receipt: Receipt, content: Content) -> Form:
    """Return the form that the client would rather have, of those that there are."""
    if content.data is not None:
        return Form("csv", "identity", content.sha256)
    kind: Format = "csv"
    if content.job is not None:
        kind = content.format or format_of(request.headers.get("accept"))
    codings = codings_of(request.headers.get("accept-encoding"))
    if not codings:
        raise Trouble(406, "Accept-Encoding leaves nothing: gzip, zstd and identity are there")
    if "identity" in codings and _better_as_it_is(request, reader, receipt, content, kind):
        codings.insert(0, "identity")
    forms = {(form := _of(content, kind, coding)).etag: form for coding in codings}
    return forms[named(request.headers, list(forms)) or next(iter(forms))]


def _better_as_it_is(
    request: Request, reader: Reader, receipt: Receipt, content: Content, kind: Format
) -> bool:
    """Whether not to compress: ranges are of the content as it lies; and it may be too small, or there too much to do."""
    ranged = (
        "range" in request.headers and request.method == "GET" and _range_holds(request, receipt, content)
    )
    return (
        kind == "parquet"  # which is compressed inside
        or (kind == "csv" and (ranged or reader.making() >= MAKING))
        or content.size < WORTH
    )


def _of(content: Content, kind: Format, coding: Coding) -> Form:
    parts = [content.sha256]
    parts += [kind] if kind != "csv" else []
    parts += [coding] if coding != "identity" else []
    return Form(kind, coding, "-".join(parts))


def _range_holds(request: Request, receipt: Receipt, content: Content) -> bool:
    only_version = receipt.generation == 1
    condition = request.headers.get("if-range")
    return range_holds(condition, content.sha256, receipt.published, only_version=only_version)


def _headers(reader: Reader, state: State, receipt: Receipt, content: Content, form: Form) -> dict[str, str]:
    headers = {
        "ETag": f'"{form.etag}"',
        "Last-Modified": http_date(receipt.published),
        "Accept-Ranges": "bytes" if form.plain else "none",
        # Whoever keeps a copy asks whether it is still the newest; only the reader knows.
        "Cache-Control": "no-cache" if reader.settings.http.read_token is None else "private, no-cache",
        "Millstream-State": state.headline,
        "Millstream-Generation": str(receipt.generation),
        "Millstream-File-Id": receipt.file_id,
    }
    if content.data is None:
        by_accept = content.job is not None and content.format is None
        headers["Vary"] = "Accept, Accept-Encoding" if by_accept else "Accept-Encoding"
    name = content.file_name
    if form.format != "csv":
        name = f"{name.removesuffix('.csv')}.{form.format}"
    headers["Content-Disposition"] = inline(name) if content.shown else attachment(name)
    return headers


def _joined(between: list[bytes], parts: list[bytes]) -> bytes:
    """Return parts with what stands between them."""
    if not between:
        return b"".join(parts)
    return b"".join(frame + part for frame, part in zip(between, [*parts, b""], strict=True))

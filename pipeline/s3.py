"""The edge to S3: the only file that knows boto3, and where its exceptions become ours."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from importlib.metadata import version
from ipaddress import ip_address
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.client import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.utils import parse_timestamp

from pipeline.errors import (
    MillstreamError,
    NotFound,
    Permanent,
    PreconditionFailed,
    Refused,
    Throttled,
    Transient,
    Unreachable,
)
from pipeline.s3_expect import send_small_at_once
from pipeline.s3_meter import measure
from pipeline.s3_pieces import PIECE, Pieces
from pipeline.settings import S3Settings
from pipeline.store import PART_SIZE, Body, Head, Unfinished

_SENDING = 2
"""Parts that are on their way at a time, while the next one is made."""

_COPY_PART = 16 * 1024 * 1024
_COPY_PARTS = 100
"""Bytes of one part of a copy made on the server, and how many parts there are at most; S3 takes up to 5 GiB each."""

_UNTYPED = "binary/octet-stream"
"""S3's own name for content of which nothing is said, and what parts are sent as: an object's type is told when its upload is
begun. SeaweedFS compresses what may be text, and unpacks it again to hash it: 1.3 s of CPU for 52 MB of CSV, instead of 0.6."""

_SMALL_COPY = 1024 * 1024
"""Bytes up to which a copy goes by way of us."""


_making = threading.Lock()


def client(settings: S3Settings, *, patience: float = 3) -> Any:
    """Return a boto3 client; where nothing answers, a call gives up after about three times `patience` seconds."""
    with _making:  # boto3's sessions aren't for several threads at once
        made = _client(settings, patience)
    send_small_at_once(made)
    made.meta.events.register("before-call.s3.UploadPart", _without_type)
    measure(made)
    return made


def _client(settings: S3Settings, patience: float) -> Any:
    session, name = _session()
    return session.client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key.get_secret_value() if settings.secret_key else None,
        region_name=settings.region,
        config=Config(
            connect_timeout=patience,
            read_timeout=60,
            retries={"total_max_attempts": 3, "mode": "standard"},
            s3=_options(settings.endpoint),
            max_pool_connections=32,
            user_agent=name,
        ),
    )


def _options(endpoint: str | None) -> dict[str, Any]:
    """Return the S3 part of a client's configuration.

    botocore leaves a body out of the signature where TLS protects it, and signs it elsewhere, also where it doesn't leave this
    machine, or leaves it by a tunnel that protects it: 0.2 s of CPU for 52 MB, more than all else that sending takes. A CRC-32
    goes with each body anyway.
    """
    if endpoint is None:
        return {"addressing_style": "auto"}
    return {"addressing_style": "path"} | ({"payload_signing_enabled": False} if _is_here(endpoint) else {})


def _is_here(endpoint: str) -> bool:
    """Whether an endpoint is on this very machine."""
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _without_type(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["Content-Type"] = _UNTYPED


@lru_cache(maxsize=1)
def _session() -> tuple[Any, str]:
    """Return a session, and what its clients call themselves: said once, since botocore makes it up twice for each call.

    It reads times quickly: botocore's own way is three quarters of what listing 1,000 keys takes, and a tenth of a small call.
    """
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    session = boto3.Session(botocore_session=core)
    return session, f"millstream/{version('millstream')} {core.user_agent()}"


def _time(value: Any) -> datetime:
    """Return a time as S3 writes it: in ISO 8601 in listings, as HTTP does in headers."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(value)
        except (AttributeError, TypeError, ValueError):
            continue
        if found.tzinfo is not None:
            return found
    return parse_timestamp(value)  # type: ignore[no-any-return]


class S3Store:
    """One bucket on S3; the contract is `pipeline.store.ObjectStore`."""

    def __init__(self, client: Any, bucket: str) -> None:
        """`client` is what `client()` returned."""
        self._client = client
        self._is_here = _is_here(client.meta.endpoint_url)
        self.bucket = bucket

    def create_bucket(self) -> None:
        """Make the bucket where it isn't there."""
        with suppress(PreconditionFailed), self._errors(self.bucket):
            self._client.create_bucket(Bucket=self.bucket)

    def check(self) -> None:
        """Raise where the bucket can't be reached or isn't there."""
        with self._errors(self.bucket):
            self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def head(self, key: str) -> Head:
        """See ObjectStore."""
        with self._errors(key):
            return _head(key, self._client.head_object(Bucket=self.bucket, Key=key))

    def get(self, key: str) -> tuple[bytes, Head]:
        """See ObjectStore."""
        with self._errors(key):
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            return answer["Body"].read(), _head(key, answer)

    @contextmanager
    def open(
        self, key: str, *, if_match: str | None = None, start: int = 0, length: int | None = None
    ) -> Iterator[Body]:
        """See ObjectStore."""
        wanted: dict[str, Any] = {"Bucket": self.bucket, "Key": key}
        if if_match is not None:
            wanted["IfMatch"] = f'"{if_match}"'
        stop = None if length is None else start + length
        with self._errors(key):
            answer = self._first(wanted, start, stop)
        size = (
            int(answer["ContentRange"].rpartition("/")[2])
            if "ContentRange" in answer
            else answer["ContentLength"]
        )
        head = _head(key, answer, size)
        there = (size if stop is None else min(stop, size)) - start
        pieces = Pieces(answer["Body"], start, there, answer["ContentLength"], partial(self._piece, head))

        def read(size: int) -> bytes:
            with self._errors(key):
                return pieces.read(size)

        try:
            yield Body(head, start, there, read)
        finally:
            pieces.close()

    def _first(self, wanted: dict[str, Any], start: int, stop: int | None) -> Any:
        """Ask for an object from `start` to `stop`, or to its end; of this machine's server for no more than a piece of it."""
        end = min(start + PIECE, start + PIECE if stop is None else stop) if self._is_here else stop
        if not start and end is None:
            return self._client.get_object(**wanted)
        try:
            return self._client.get_object(**wanted, Range=f"bytes={start}-{'' if end is None else end - 1}")
        except ClientError as error:
            if start or stop is not None or error.response["Error"]["Code"] != "InvalidRange":
                raise
        return self._client.get_object(**wanted)  # of an empty object there is no piece

    def _piece(self, head: Head, start: int, stop: int) -> Any:
        """Return the body of bytes `start` to `stop - 1` of the very object that was opened."""
        answer = self._client.get_object(
            Bucket=self.bucket, Key=head.key, IfMatch=f'"{head.etag}"', Range=f"bytes={start}-{stop - 1}"
        )
        return answer["Body"]

    def put(
        self,
        key: str,
        data: bytes,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """See ObjectStore."""
        with self._errors(key):
            answer = self._client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                Metadata=dict(metadata or {}),
                ContentType=_content_type(key),
                **_conditions(if_match, if_none_match),
            )
        return _etag(answer)

    def upload(self, key: str, chunks: Iterable[bytes], *, metadata: Mapping[str, str] | None = None) -> str:
        """See ObjectStore: one put where it is smaller than a part, else a multipart upload, aborted where it fails.

        It begins with the first part, while the next one is made, which may take long.
        """
        parts = _parts(chunks)
        first = [next(parts, b"")]
        if len(first[0]) < PART_SIZE:
            return self.put(key, first[0], metadata=metadata)

        def every() -> Iterator[bytes]:
            yield first.pop()
            yield from parts

        def send(upload: str) -> list[dict[str, Any]]:
            done: list[dict[str, Any]] = []
            sending: deque[Future[dict[str, Any]]] = deque()
            with ThreadPoolExecutor(_SENDING, "upload") as pool:
                for number, part in enumerate(every(), 1):
                    sending.append(pool.submit(self._part, key, upload, number, part))
                    del part
                    while len(sending) == _SENDING:
                        done.append(sending.popleft().result())
                return done + [part.result() for part in sending]

        return self._multipart(key, metadata, {}, send)

    def _part(self, key: str, upload: str, number: int, data: bytes) -> dict[str, Any]:
        answer = self._client.upload_part(
            Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number, Body=data
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def copy(
        self,
        source: str,
        key: str,
        *,
        if_match: str | None = None,
        if_none_match: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """See ObjectStore: a multipart copy, since its completion is what S3 servers make conditional.

        What is small is got and put, which is two calls instead of four.
        """
        with self.open(source) as body:
            size = body.head.size
            data = b"".join(body.chunks) if size <= _SMALL_COPY else None
        if data is not None:
            return self.put(key, data, if_match=if_match, if_none_match=if_none_match, metadata=metadata)
        part = max(_COPY_PART, -(-size // _COPY_PARTS))
        ranges = [(at, min(at + part, size) - 1) for at in range(0, size, part)]

        def send(upload: str) -> list[dict[str, Any]]:
            def one(number: int, start: int, stop: int) -> dict[str, Any]:
                answer = self._client.upload_part_copy(
                    Bucket=self.bucket,
                    Key=key,
                    UploadId=upload,
                    PartNumber=number,
                    CopySource={"Bucket": self.bucket, "Key": source},
                    CopySourceRange=f"bytes={start}-{stop}",
                )
                return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

            with ThreadPoolExecutor(_SENDING, "copy") as pool:
                return list(pool.map(one, count(1), *zip(*ranges, strict=True)))

        return self._multipart(key, metadata, _conditions(if_match, if_none_match), send)

    def _multipart(
        self, key: str, metadata: Mapping[str, str] | None, conditions: Mapping[str, str], send: Any
    ) -> str:
        with self._errors(key):
            upload = self._client.create_multipart_upload(
                Bucket=self.bucket, Key=key, Metadata=dict(metadata or {}), ContentType=_content_type(key)
            )["UploadId"]
            try:
                answer = self._client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=key,
                    UploadId=upload,
                    MultipartUpload={"Parts": send(upload)},
                    **conditions,
                )
            except BaseException:
                with suppress(BotoCoreError, ClientError):
                    self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
                raise
        return _etag(answer)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """See ObjectStore."""
        with self._errors(key):
            self._client.delete_object(Bucket=self.bucket, Key=key, **_conditions(if_match, False))

    def list(self, prefix: str = "", *, delimiter: str = "") -> Iterator[Head]:
        """See ObjectStore."""
        with self._errors(prefix or self.bucket):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter=delimiter
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield Head(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"])

    def unfinished(self) -> Iterator[Unfinished]:
        """See ObjectStore."""
        with self._errors(self.bucket):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket):
                for item in page.get("Uploads", ()):
                    yield Unfinished(item["Key"], item["UploadId"])

    def abort(self, upload: Unfinished) -> None:
        """See ObjectStore."""
        with suppress(NotFound), self._errors(upload.key):
            try:
                self._client.abort_multipart_upload(
                    Bucket=self.bucket, Key=upload.key, UploadId=upload.number
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "NoSuchUpload":
                    raise

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise translate(error, f"{self.bucket}/{what}", self._client.meta.endpoint_url) from error


def translate(error: Exception, what: str, endpoint: str) -> MillstreamError:
    """Return the error of ours that a boto3 exception is; `what` names the object, `endpoint` the server."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "")
        if code in {"NoSuchBucket"}:
            return Refused(
                f"S3 at {endpoint} has no bucket {what.partition('/')[0]!r}: make it, or set s3.uploads and s3.results"
            )
        if code == "NoSuchUpload":
            # Its completion was answered, the answer was lost, and boto3 asked again; or somebody cleared it away.
            return Transient(
                f"S3 at {endpoint}: the upload of {what} is over already, and it isn't known how"
            )
        if status == 404 or code in {"404", "NoSuchKey", "NotFound"}:
            return NotFound(f"S3 at {endpoint}: there is no {what}")
        if status in {409, 412}:
            return PreconditionFailed(f"S3 at {endpoint}: {what} was changed by somebody else")
        if status in {401, 403}:
            return Refused(f"S3 at {endpoint} refuses {what} ({code}): check s3.access_key and s3.secret_key")
        if status == 416:
            return Permanent(f"S3 at {endpoint}: {what} has no such range")
        if status == 429 or status >= 500 or code in {"SlowDown", "RequestTimeout"}:
            return Throttled(f"S3 at {endpoint}: {what}: {code or status} {message}".rstrip())
        return Permanent(f"S3 at {endpoint}: {what}: {code or status} {message}".rstrip())
    lost = (ConnectionError, HTTPClientError, ReadTimeoutError, IncompleteReadError, ResponseStreamingError)
    if isinstance(error, lost):
        return Unreachable(
            f"S3 at {endpoint} does not answer ({type(error).__name__}): is it running? the setting is s3.endpoint"
        )
    if isinstance(error, NoCredentialsError):
        return Refused(
            f"S3 at {endpoint}: no credentials: set s3.access_key and s3.secret_key, and s3.endpoint for a server of your "
            "own; or start `millstream up`, which other commands in its folder find by themselves"
        )
    return Permanent(f"S3 at {endpoint}: {what}: {error}")


def _head(key: str, answer: Mapping[str, Any], size: int | None = None) -> Head:
    length = answer["ContentLength"] if size is None else size
    return Head(key, _etag(answer), length, answer["LastModified"], answer.get("Metadata", {}))


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')


def _conditions(if_match: str | None, if_none_match: bool) -> dict[str, str]:
    if if_match is not None:
        return {"IfMatch": f'"{if_match}"'}
    return {"IfNoneMatch": "*"} if if_none_match else {}


def _content_type(key: str) -> str:
    return "application/json" if key.endswith(".json") else "text/csv" if key.endswith(".csv") else _UNTYPED


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup pieces into parts of PART_SIZE; only the last may be smaller."""
    held: list[bytes] = []
    room = PART_SIZE
    for chunk in chunks:
        rest = chunk
        while len(rest) >= room:
            part = b"".join((*held, rest[:room]))
            held, rest, room = [], rest[room:], PART_SIZE
            yield part
        if rest:
            held.append(rest)
            room -= len(rest)
    if held:
        yield b"".join(held)

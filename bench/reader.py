"""reader: a result fetched through the reader, beside the S3 server's own answer for the same object; a crowd; the list.

`ours` and `ceiling` are one client, without compression, to the last byte; `rows_per_s` counts lines of the file. `crowd` is
1,000 clients at a time, 50 of them slow (64 KB every 50 ms), each of which compares every byte: its rows are those of all
clients. `list` is a page of 100 of 10,000 published files, from the request to the last byte, when it was asked for before.
Rows are lines of 20 bytes; unless told otherwise there are as many as 100 MB hold.
"""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from bench import usage
from bench.context import Context
from bench.measured import Measured, Participant
from bench.place import Place
from bench.processes import Broken
from millstream import ports
from pipeline import layout
from pipeline.jobs import NameRecord, Receipt, Source
from pipeline.s3 import S3Store, client
from tests.files import Files

CLIENTS, SLOW = 1_000, 50
FILES, ASKED = 10_000, 20
NAME = "orders.csv"
ROWS = 5_000_000
_LINE = 20


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours, the ceiling, the crowd and the list, all of one reader."""
    with context.services.place() as here:
        connection = client(here.settings.s3)
        files = Files(S3Store(connection, here.s3.uploads), S3Store(connection, here.s3.results))
        content = _content(context.rows)
        (here.folder / NAME).write_bytes(content)
        receipt = files.published(NAME, content)
        assert receipt.output is not None
        [port] = ports.choose(1)
        here.start("serve", "-m", "sink", "serve", http_port=str(port))
        here.processes.said("serve", "serving")
        url = f"http://127.0.0.1:{port}"
        direct = connection.generate_presigned_url(
            "get_object", Params={"Bucket": here.s3.results, "Key": receipt.output.key}
        )
        digest = hashlib.sha256(content).digest()
        context.tell(f"{FILES:,} published files …")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: _publish(files, f"many/{number:05}.csv", receipt), range(FILES)))
        yield {
            "ours": lambda: _fetched(here, f"{url}/results/{NAME}", digest, context.rows),
            "ceiling": lambda: _fetched(here, direct, digest, context.rows),
            "crowd": lambda: _crowd(here, f"{url}/results/{NAME}", context.rows),
            "list": lambda: _listed(here, f"{url}/results"),
        }
        connection.close()


def _fetched(here: Place, url: str, digest: bytes, rows: int) -> Measured:
    before = here.processes.usage()
    found = hashlib.sha256()
    start = time.perf_counter()
    with httpx.stream("GET", url, headers={"Accept-Encoding": "identity"}, timeout=60) as answer:
        for piece in answer.iter_raw(1024 * 1024):
            found.update(piece)
    seconds = time.perf_counter() - start
    used = usage.between(before, here.processes.usage())
    if found.digest() != digest:
        raise Broken(f"GET {url} answered {answer.status_code} with other bytes")
    return _measured(rows, seconds, used)


def _crowd(here: Place, url: str, rows: int) -> Measured:
    before = here.processes.usage()
    arguments = (url, str(here.folder / NAME), str(CLIENTS), str(SLOW))
    here.start("crowd", "-m", "bench.programs.crowd", *arguments)
    said = here.processes.said("crowd", "done", timeout=3600)
    used = usage.between(before, here.processes.usage())
    here.processes.stop("crowd")
    if said["right"] != CLIENTS:
        raise Broken(f"{said['right']} of {CLIENTS} clients got the right bytes")
    measured = _measured(CLIENTS * rows, said["seconds"], used)
    measured.figures["reader_mb"] = used["serve"].peak_mb
    return measured


def _listed(here: Place, url: str) -> Measured:
    with httpx.Client(timeout=120) as asking:
        wanted = {"prefix": "many/", "after": f"many/{FILES // 2:05}.csv"}
        asking.get(url, params=wanted).raise_for_status()
        before = here.processes.usage()
        seconds = []
        for _ in range(ASKED):
            start = time.perf_counter()
            answer = asking.get(url, params=wanted)
            seconds.append(time.perf_counter() - start)
            if len(answer.json()["items"]) != 100:
                raise Broken(f"GET /results answered {answer.status_code}: {answer.text[:200]}")
        used = usage.between(before, here.processes.usage())
    seconds.sort()
    figures = {"list_s": seconds[len(seconds) // 2], "max_s": seconds[-1]}
    return Measured(figures, used, {"checked": True, "files": FILES})


def _measured(rows: int, seconds: float, used: dict[str, usage.Usage]) -> Measured:
    figures = {"rows_per_s": rows / seconds, "mb_per_s": rows * _LINE / 1e6 / seconds}
    return Measured(figures, used, {"checked": True})


def _publish(files: Files, name: str, like: Receipt) -> None:
    """Write down that a file is published: what the list looks at, without an output of its own."""
    etag = files.uploads.put(name, b"order_id\n")
    source = Source(key=name, etag=etag, size=9, last_modified=like.published)
    record = NameRecord(generation=1, file_id=like.file_id, source=source)
    files.results.put(layout.name_record(name), record.dump())
    receipt = like.model_copy(update={"name": name, "source": source})
    files.results.put(layout.receipt(name), receipt.dump())


def _content(rows: int) -> bytes:
    """Lines of 20 bytes, each unlike the others."""
    lines = (b"%010d,%08d\n" % (number, number * 7919 % 10**8) for number in range(rows))
    return b"order_id,totals____\n" + b"".join(lines)

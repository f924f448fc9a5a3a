"""The reader as a process of its own, over a real S3 server, asked by curl, httpx and bare sockets."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import SecretStr

from millstream import ports
from millstream.process import Command, Process, running
from pipeline.errors import NotFound, SettingsError
from pipeline.s3 import S3Store, client
from pipeline.settings import HttpSettings, S3Settings
from pipeline.store import PART_SIZE
from sink.http_reader import THREADS
from sink.http_server import address, listen
from tests.files import Files
from tests.services.require import missing
from tests.services.s3 import S3, fresh_buckets

MB = 1024 * 1024
ROOT = Path(__file__).parents[2]
CSV = b"order_id,total\n007,29.97\n"
TOML = """
[calculations.orders]
match = "orders*.csv"
id = "order_id"
outputs = { total = "quantity" }
"""


@dataclass
class Reader:
    """A reader that runs, the files it reads, and the process that it is."""

    url: str
    files: Files
    process: Process
    unfinished: Callable[[], list[str]]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @contextmanager
    def grows_by_less_than(self, size: int) -> Iterator[None]:
        """Hold that the process never has `size` bytes more in memory than it has now."""
        about = Path(f"/proc/{self.process.pid}")
        (about / "clear_refs").write_text("5")  # from here on, the peak is a new one
        before = self._peak()
        yield
        assert self._peak() - before < size

    def _peak(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def in_flight(self) -> int:
        """How many requests it is answering, the one that asks included."""
        return int(re.findall(r"millstream_http_in_flight (\d+)", httpx.get(f"{self.url}/metrics").text)[0])

    def answered(self, route: str) -> int:
        """How many requests of a route it is done with."""
        text = httpx.get(f"{self.url}/metrics").text
        pattern = rf'millstream_http_requests_total{{.*route="{re.escape(route)}".*}} (\d+)'
        return sum(int(found) for found in re.findall(pattern, text))


@contextmanager
def reader_of(s3: S3, directory: Path, **variables: str) -> Iterator[Reader]:
    """A reader on two buckets."""
    settings = S3Settings(endpoint=s3.endpoint, access_key=s3.access_key, secret_key=SecretStr(s3.secret_key))
    connection = client(settings)
    files = Files(S3Store(connection, s3.uploads), S3Store(connection, s3.results))
    (directory / "millstream.toml").write_text(TOML)
    port = ports.choose(1)[0]
    command = Command(
        name="serve",
        argv=(sys.executable, "-m", "sink", "serve"),
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "MILLSTREAM_S3_ENDPOINT": s3.endpoint,
            "MILLSTREAM_S3_ACCESS_KEY": s3.access_key,
            "MILLSTREAM_S3_SECRET_KEY": s3.secret_key,
            "MILLSTREAM_S3_UPLOADS": s3.uploads,
            "MILLSTREAM_S3_RESULTS": s3.results,
            "MILLSTREAM_HTTP_PORT": str(port),
            **variables,
        },
    )
    url = f"http://127.0.0.1:{port}"

    def unfinished() -> list[str]:
        found = connection.list_multipart_uploads(Bucket=s3.uploads)
        return [upload["Key"] for upload in found.get("Uploads", ())]

    with running(command, lambda: answers(url), log=directory / "serve.log") as process:
        yield Reader(url, files, process, unfinished)
    connection.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def reader(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One reader for all tests, each of which has names of its own."""
    with fresh_buckets(s3_server) as s3, reader_of(s3, tmp_path_factory.mktemp("reader")) as found:
        yield found


@pytest.fixture
def own_reader(s3: S3, tmp_path: Path) -> Iterator[Reader]:
    """A reader for a test that ends it."""
    with reader_of(s3, tmp_path) as found:
        yield found


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"orders-{uuid.uuid4().hex[:8]}.csv"


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether the condition comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def body(size: int) -> bytes:
    """A CSV of about this size, each line unlike the others."""
    lines = size // 20
    return b"order_id,total\n" + b"".join(b"%010d,%08d\n" % (n, n * 7919 % 10**8) for n in range(lines))


def run_curl(*arguments: str, cwd: Path | None = None) -> bytes:
    """Run curl; return what it writes, or skip the test where there is none."""
    if shutil.which("curl") is None:
        missing("curl", "it isn't on the PATH")
    return subprocess.run(
        ["curl", "-sS", *arguments], capture_output=True, check=True, timeout=60, cwd=cwd
    ).stdout


def curl(*arguments: str) -> tuple[int, dict[str, str], bytes]:
    """Run curl; return the last answer's status, its headers in lower case, and its body."""
    rest = run_curl("-i", *arguments)
    while True:
        head, _, rest = rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        status = int(first.split()[1])
        if status != 100:
            headers = dict(line.split(": ", 1) for line in lines)
            return status, {name.lower(): value for name, value in headers.items()}, rest


def test_curl_gets_a_result_with_its_headers(reader: Reader) -> None:
    receipt = reader.files.published("2024/orders ü.csv")
    status, headers, content = curl(f"{reader.url}/results/2024/orders%20%C3%BC.csv")
    assert (status, content) == (200, CSV)
    assert headers == {
        "date": headers["date"],
        "content-type": "text/csv; charset=utf-8; header=present",
        "content-length": str(len(CSV)),
        "content-disposition": 'attachment; filename="orders _.results.csv"; '
        "filename*=UTF-8''orders%20%C3%BC.results.csv",
        "etag": f'"{hashlib.sha256(CSV).hexdigest()}"',
        "last-modified": "Wed, 04 Mar 2026 05:06:07 GMT",
        "accept-ranges": "bytes",
        "vary": "Accept, Accept-Encoding",
        "cache-control": "no-cache",
        "millstream-state": "published",
        "millstream-generation": "1",
        "millstream-file-id": receipt.file_id,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def test_curl_saves_under_the_name_that_the_reader_gives(reader: Reader, tmp_path: Path) -> None:
    reader.files.published("2024/orders.csv")
    (tmp_path / "orders.csv").write_bytes(b"the input")
    for kind in ("results", "rejects", "receipts"):
        run_curl("-OJ", f"{reader.url}/{kind}/2024/orders.csv", cwd=tmp_path)
    assert (tmp_path / "orders.csv").read_bytes() == b"the input"
    assert (tmp_path / "orders.results.csv").read_bytes() == CSV
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "orders.csv",
        "orders.receipt.json",
        "orders.rejects.csv",
        "orders.results.csv",
    ]


def test_readmes_commands_leave_the_input_of_the_same_folder_as_it_is(reader: Reader, tmp_path: Path) -> None:
    """Each is run twice, in the order in which they stand there, as it stands there but for the address."""
    content = b"order_id,quantity,price\n007,3,9.99\n"
    reader.files.upload("orders.csv", content)
    reader.files.publish(reader.files.take_on("orders.csv", "orders.csv"), CSV)
    (tmp_path / "orders.csv").write_bytes(content)
    (tmp_path / "orders.csv").chmod(0o444)
    lines = readme_commands()
    assert len(lines) >= 7
    for line in [*lines, *lines]:
        done = subprocess.run(
            ["sh", "-c", f"R={reader.url}/results/orders.csv; {line}"],
            cwd=tmp_path,
            capture_output=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        assert (tmp_path / "orders.csv").read_bytes() == content, line
        if "-o orders.results.csv" in line:
            assert (tmp_path / "orders.results.csv").read_bytes() == CSV, line
    table = pq.read_table(tmp_path / "orders.results.parquet")
    assert table.column("order_id").to_pylist() == ["007"]


def readme_commands() -> list[str]:
    """README's command lines of curl that fetch a result, a rejects file or a receipt."""
    if shutil.which("curl") is None:
        missing("curl", "it isn't on the PATH")
    found = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
    return [
        line
        for line in found
        if line.startswith("curl ") and re.search(r"\$R\b", line) and "DELETE" not in line
    ]


def test_curl_asks_for_the_head_a_range_and_what_is_newer(reader: Reader, name: str) -> None:
    reader.files.published(name)
    url = f"{reader.url}/results/{name}"
    status, headers, content = curl("-I", url)
    assert (status, headers["content-length"], content) == (200, str(len(CSV)), b"")
    status, headers, content = curl("-r", "0-7", url)
    assert (status, headers["content-range"], content) == (206, f"bytes 0-7/{len(CSV)}", CSV[:8])
    status, headers, content = curl("-r", "999-", url)
    assert (status, headers["content-range"]) == (416, f"bytes */{len(CSV)}")
    assert json.loads(content)["status"] == 416
    status, headers, content = curl("-z", "Wed, 04 Mar 2026 05:06:07 GMT", url)
    assert (status, content, "content-length" in headers) == (304, b"", False)
    status, _, content = curl("-H", f'If-None-Match: "{hashlib.sha256(CSV).hexdigest()}"', url)
    assert (status, content) == (304, b"")


def test_curl_resumes_only_what_is_still_the_same(reader: Reader, name: str) -> None:
    first = reader.files.published(name, body(MB))
    assert first.output is not None
    url = f"{reader.url}/results/{name}"
    of_first = ("-H", f'If-Range: "{first.output.sha256}"', "-r", "1000-")
    assert curl(*of_first, url)[0] == 206
    newer = body(MB) + CSV
    reader.files.upload(name, b"other\n")
    reader.files.publish(reader.files.take_on(name, name, generation=2), newer)
    status, headers, content = curl(*of_first, url)
    assert (status, content) == (200, newer)
    assert headers["millstream-generation"] == "2"


def test_curl_gets_several_ranges_as_parts(reader: Reader, name: str) -> None:
    content = body(MB)
    reader.files.published(name, content)
    status, headers, found = curl("-r", "0-9,-10", f"{reader.url}/results/{name}")
    assert (status, headers["content-length"]) == (206, str(len(found)))
    boundary = headers["content-type"].removeprefix("multipart/byteranges; boundary=").encode()
    parts = found.split(b"\r\n--" + boundary)
    assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [content[:10], content[-10:], b""]
    assert f"bytes 0-9/{len(content)}".encode() in parts[0]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_curl_gets_a_result_compressed(reader: Reader, name: str, coding: str) -> None:
    content = body(4 * MB)
    receipt = reader.files.published(name, content)
    assert receipt.output is not None
    url = f"{reader.url}/results/{name}"
    status, headers, packed = curl("-H", f"Accept-Encoding: {coding};q=0.5, identity;q=0.1", url)
    assert (status, headers["content-encoding"], headers["vary"]) == (200, coding, "Accept, Accept-Encoding")
    assert headers["etag"] == f'"{receipt.output.sha256}-{coding}"'
    assert headers["accept-ranges"] == "none"
    unpacked = (
        zlib.decompress(packed, 31)
        if coding == "gzip"
        else zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    )
    assert unpacked == content
    status, _, nothing = curl(
        "-H", f"Accept-Encoding: {coding}", "-H", f"If-None-Match: {headers['etag']}", url
    )
    assert (status, nothing) == (304, b"")


def test_curl_gets_a_result_in_the_format_that_it_asks_for(reader: Reader, name: str) -> None:
    content = b"order_id,total\n" + b"".join(b"%05d,%d.50\n" % (number, number) for number in range(1000))
    reader.files.published(name, content)
    url = f"{reader.url}/results/{name}"
    _, headers, parquet = curl("-H", "Accept: application/vnd.apache.parquet", url)
    assert headers["content-type"] == "application/vnd.apache.parquet"
    assert f'filename="{name.removesuffix(".csv")}.results.parquet"' in headers["content-disposition"]
    table = pq.read_table(io.BytesIO(parquet))
    assert table.num_rows == 1000
    assert str(table.schema.field("total").type) == "decimal128(38, 2)"
    _, _, found = curl(f"{url}?format=json")
    assert json.loads(found)[-1] == {"order_id": "00999", "total": 999.5}


def test_a_download_that_broke_off_is_resumed(reader: Reader, name: str, tmp_path: Path) -> None:
    content = body(4 * MB)
    reader.files.published(name, content)
    half = tmp_path / name
    half.write_bytes(content[: 3 * MB])
    url = f"{reader.url}/results/{name}"
    run_curl("-C", "-", "-o", str(half), url)
    assert half.read_bytes() == content


def test_an_error_is_a_problem_on_the_wire(reader: Reader) -> None:
    status, headers, content = curl(f"{reader.url}/results/nothing.csv")
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert json.loads(content)["state"] == "unknown"
    status, headers, _ = curl("-X", "POST", f"{reader.url}/results/orders.csv")
    assert (status, headers["content-type"]) == (405, "application/problem+json")
    assert set(headers["allow"].split(", ")) <= {"GET", "HEAD", "DELETE"}
    status, _, _ = curl("--path-as-is", f"{reader.url}/results/../../etc/passwd")
    assert status == 404


def test_a_file_goes_in_by_curl_and_says_where_it_is(reader: Reader, name: str, tmp_path: Path) -> None:
    content = body(3 * PART_SIZE)
    (tmp_path / name).write_bytes(content)
    status, headers, _ = curl("-T", str(tmp_path / name), f"{reader.url}/uploads/")
    assert (status, headers["location"]) == (201, f"/jobs/{name}")
    with reader.files.uploads.open(name) as stored:
        assert hashlib.sha256(b"".join(stored.chunks)).digest() == hashlib.sha256(content).digest()
    assert reader.unfinished() == []
    status, _, told = curl(f"{reader.url}{headers['location']}")
    assert (status, json.loads(told)["state"]) == (200, "uploaded")


def test_what_is_refused_is_refused_before_the_body_is_sent(reader: Reader, tmp_path: Path) -> None:
    """curl waits for `100 Continue` with bodies of this size."""
    (tmp_path / "parcels.csv").write_bytes(body(4 * MB))
    url = f"{reader.url}/uploads/"
    said = run_curl(
        "-o", "answer", "-w", "%{http_code} %{size_upload}", "-T", "parcels.csv", url, cwd=tmp_path
    )
    assert said == b"422 0"
    assert "[calculations.parcels]" in json.loads((tmp_path / "answer").read_text())["detail"]


def test_a_client_that_sends_without_waiting_still_gets_to_know_why_it_is_refused(reader: Reader) -> None:
    answer = httpx.put(f"{reader.url}/uploads/parcels.csv", content=body(8 * MB))
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "sent", [MB, PART_SIZE + MB, 3 * PART_SIZE], ids=["part", "second part", "third part"]
)
@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
def test_an_upload_that_the_client_breaks_off_leaves_nothing(
    reader: Reader, name: str, framing: str, sent: int
) -> None:
    head = f"PUT /uploads/{name} HTTP/1.1\r\nHost: reader\r\n{framing}\r\n\r\n".encode()
    piece = b"x" * 65536
    before = reader.answered("/uploads/{name:path}")
    with socket.create_connection(("127.0.0.1", reader.port)) as connection:
        connection.sendall(head)
        for _ in range(sent // len(piece)):
            connection.sendall(b"10000\r\n" + piece + b"\r\n" if "chunked" in framing else piece)
    assert eventually(lambda: reader.answered("/uploads/{name:path}") == before + 1)
    with pytest.raises(NotFound):
        reader.files.uploads.head(name)
    assert reader.unfinished() == []


def test_a_large_upload_is_never_held_whole(reader: Reader, name: str) -> None:
    piece = os.urandom(MB)

    def pieces() -> Iterator[bytes]:
        for _ in range(160):
            yield piece

    with reader.grows_by_less_than(80 * MB):
        answer = httpx.put(f"{reader.url}/uploads/{name}", content=pieces(), timeout=120)
    assert (answer.status_code, answer.json()["bytes"]) == (201, 160 * MB)
    assert reader.files.uploads.head(name).size == 160 * MB


def test_many_downloads_at_a_time_get_their_own_bytes_and_slow_ones_hold_up_nobody(
    reader: Reader, name: str
) -> None:
    content = body(16 * MB)
    reader.files.published(name, content)
    digest = hashlib.sha256(content).hexdigest()

    def download(_: int) -> str:
        found = hashlib.sha256()
        with httpx.stream("GET", f"{reader.url}/results/{name}", timeout=60) as answer:
            for piece in answer.iter_bytes():
                found.update(piece)
        return found.hexdigest()

    slow = [socket.create_connection(("127.0.0.1", reader.port)) for _ in range(THREADS + 2)]
    with reader.grows_by_less_than(300 * MB), ThreadPoolExecutor(8) as pool:
        for connection in slow:
            connection.sendall(f"GET /results/{name} HTTP/1.1\r\nHost: reader\r\n\r\n".encode())
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert set(pool.map(download, range(12))) == {digest}
    for connection in slow:
        connection.close()
    assert download(0) == digest


def test_downloads_that_are_broken_off_leave_nothing_behind(reader: Reader, name: str) -> None:
    content = body(4 * MB)
    reader.files.published(name, content)
    before = reader.answered("/results/{name:path}")
    for _ in range(THREADS + 2):
        with httpx.stream("GET", f"{reader.url}/results/{name}") as answer:
            assert next(answer.iter_bytes(10))
    assert eventually(lambda: reader.answered("/results/{name:path}") == before + THREADS + 2)
    assert httpx.get(f"{reader.url}/results/{name}").content == content
    assert len(list(Path(f"/proc/{reader.process.pid}/fd").iterdir())) < 80


def test_waiting_clients_are_answered_when_the_result_is_there(reader: Reader, name: str) -> None:
    reader.files.upload(name)
    job = reader.files.take_on(name, name)

    def fetch(_: int) -> bytes:
        return together.get(f"{reader.url}/results/{name}?wait=60").content

    many = THREADS + 2
    with httpx.Client(timeout=70) as together, ThreadPoolExecutor(many) as pool:
        waiting = [pool.submit(fetch, number) for number in range(many)]
        assert eventually(lambda: reader.in_flight() > many)
        reader.files.publish(job)
        assert {found.result() for found in waiting} == {CSV}


def test_a_page_of_files_is_read_from_s3(reader: Reader) -> None:
    for number in range(5):
        reader.files.published(f"paged/{number}.csv")
    reader.files.upload("paged/new/orders.csv")
    found = httpx.get(f"{reader.url}/results?prefix=paged/&limit=4").json()
    assert [item["name"] for item in found["items"]] == [f"paged/{number}.csv" for number in range(4)]
    rest = httpx.get(f"{reader.url}{found['next']}").json()
    assert [(item["name"], item["state"]) for item in rest["items"]] == [
        ("paged/4.csv", "published"),
        ("paged/new/orders.csv", "uploaded"),
    ]


@pytest.mark.parametrize("wanted", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_within_five_seconds(own_reader: Reader, wanted: signal.Signals) -> None:
    own_reader.files.upload()
    own_reader.files.take_on()
    own_reader.files.published("orders-large.csv", body(16 * MB))
    with socket.create_connection(("127.0.0.1", own_reader.port)) as slow, ThreadPoolExecutor(1) as pool:
        slow.sendall(b"GET /results/orders-large.csv HTTP/1.1\r\nHost: reader\r\n\r\n")
        assert slow.recv(10)
        waiting = pool.submit(
            lambda: httpx.get(f"{own_reader.url}/results/orders.csv?wait=60", timeout=70).status_code
        )
        assert eventually(lambda: own_reader.in_flight() == 3)
        started = time.monotonic()
        own_reader.process.send_signal(wanted)
        assert own_reader.process.wait(10) == 0
        assert time.monotonic() - started < 5
        assert waiting.result() == 202


def test_an_upload_that_the_servers_end_breaks_off_is_told_and_leaves_nothing(own_reader: Reader) -> None:
    with socket.create_connection(("127.0.0.1", own_reader.port), timeout=20) as client:
        client.sendall(
            b"PUT /uploads/orders.csv HTTP/1.1\r\nHost: reader\r\nContent-Length: 99999999\r\n\r\n"
        )
        client.sendall(body(24 * MB))
        assert eventually(lambda: len(own_reader.unfinished()) == 1)
        own_reader.process.send_signal(signal.SIGTERM)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, detail = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"application/problem+json" in head
    assert b"nothing was kept" in detail
    assert own_reader.process.wait(10) == 0
    assert own_reader.unfinished() == []
    with pytest.raises(NotFound):
        own_reader.files.uploads.head("orders.csv")


def test_s3_out_of_reach_is_named_within_ten_seconds(s3: S3, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{ports.choose(1)[0]}"
    with reader_of(s3, tmp_path, MILLSTREAM_S3_ENDPOINT=nowhere) as reader:
        for route in ("/results/orders.csv", "/health/ready", "/results"):
            answer = httpx.get(f"{reader.url}{route}", timeout=10)
            assert answer.status_code == 503
            assert nowhere in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
        answer = httpx.put(f"{reader.url}/uploads/orders.csv", content=body(2 * PART_SIZE), timeout=10)
        assert answer.status_code == 503
        assert httpx.get(f"{reader.url}/health/live").status_code == 200


def test_tokens_come_from_the_settings(s3: S3, tmp_path: Path) -> None:
    with reader_of(s3, tmp_path, MILLSTREAM_HTTP_TOKEN="secret") as reader:
        status, headers, _ = curl("-X", "PUT", "--data-binary", "a", f"{reader.url}/uploads/orders.csv")
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="millstream"')
        token = {"Authorization": "Bearer secret"}
        assert httpx.put(f"{reader.url}/uploads/orders.csv", content=CSV, headers=token).status_code == 201


def test_a_port_that_is_taken_is_named() -> None:
    with listen(HttpSettings(port=0)) as there:
        port = there.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^http\.port = {port}: something else listens"):
            listen(HttpSettings(port=port))


def test_a_host_that_is_not_this_machine_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^http\.host = '192\.0\.2\.1'"):
        listen(HttpSettings(host="192.0.2.1", port=0))
    with pytest.raises(SettingsError, match=r"^http\.host = 'no such host'"):
        listen(HttpSettings(host="no such host", port=0))


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    with listen(HttpSettings(port=0)) as found:
        assert found.getsockname()[0] == "127.0.0.1"
        assert address("127.0.0.1", found) == f"http://127.0.0.1:{found.getsockname()[1]}"
    with listen(HttpSettings(host="0.0.0.0", port=0)) as found:
        assert address("0.0.0.0", found) == f"http://127.0.0.1:{found.getsockname()[1]}"

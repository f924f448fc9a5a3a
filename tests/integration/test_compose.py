"""docker-compose.yml as a user runs it, on the public images: files go in from the host, right results come out."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from millstream import ports
from tests.integration.chain import ROOT, millstream
from tests.services.kafka import docker_answers
from tests.services.require import missing
from tests.wait import wait_until

STAGES = ("watch", "process", "sink", "serve")
ROWS = 1_000_000
PUSHED = 20_000

CONFIG = """
[calculations.orders]
match = "*.csv"
id = "order_id"
columns = { quantity = "BIGINT", price = "DECIMAL(18,2)" }
outputs = { total = "quantity * price" }
"""

SOURCE = """
COPY (
    SELECT format('{{:07}}', i) AS order_id, i % 9 AS quantity,
        CASE WHEN i % 1000 = 0 THEN 'n/a' ELSE (i % 50) || '.25' END AS price
    FROM range({rows}) t(i)
) TO '{file}' (FORMAT csv, HEADER)
"""

ORACLE = """
COPY (
    SELECT order_id, quantity::BIGINT * TRY_CAST(price AS DECIMAL(18,2)) AS total
    FROM read_csv('{file}', all_varchar = true) WHERE price <> 'n/a'
) TO '{out}' (FORMAT csv, HEADER)
"""


@dataclass(frozen=True)
class Compose:
    """A project of docker compose with ports, volumes and an image of its own."""

    folder: Path
    project: str
    http: int
    kafka: int
    s3: int
    prometheus: int

    def run(self, *arguments: str, timeout: float = 600) -> str:
        """Run docker compose; return what it prints."""
        command = ["docker", "compose", "-p", self.project, "--env-file", str(self.folder / ".env")]
        done = subprocess.run(
            [*command, "--profile", "prometheus", *arguments],
            cwd=ROOT,
            env=os.environ | {"IMAGE": self.project},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """Return the ends of all logs."""
        command = ["docker", "compose", "-p", self.project, "logs", "--no-color", "--tail", "15", *STAGES]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout

    def get(self, path: str, **query: str) -> httpx.Response:
        """Ask the reader."""
        return httpx.get(f"http://127.0.0.1:{self.http}{path}", params=query, timeout=120)

    def figures(self, query: str) -> dict[str, float]:
        """Ask Prometheus; return values by service and instance."""
        answer = httpx.get(f"http://127.0.0.1:{self.prometheus}/api/v1/query", params={"query": query}).json()
        found: list[Any] = answer["data"]["result"]
        return {
            f"{sample['metric'].get('service', '')} {sample['metric'].get('instance', '')}": float(
                sample["value"][1]
            )
            for sample in found
        }

    def figure(self, query: str) -> float:
        """Return the sum of what Prometheus answers."""
        return sum(self.figures(query).values())


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """The whole stack with Prometheus, from `up` to `down`."""
    if not docker_answers():
        missing("docker", "no Docker engine answers")
    found = Compose(tmp_path, f"millstream-test-{uuid.uuid4().hex[:8]}", *ports.choose(4))
    (tmp_path / "config").mkdir(mode=0o755)
    (tmp_path / "config" / "millstream.toml").write_text(CONFIG)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # its user inside is another than ours
    wanted = {
        "S3_ACCESS_KEY": "composetest",
        "S3_SECRET_KEY": uuid.uuid4().hex,
        "GRAFANA_PASSWORD": uuid.uuid4().hex,
        "CONFIG": str(tmp_path / "config"),
        "LOG_FORMAT": "json",
        "HTTP_PORT": found.http,
        "KAFKA_PORT": found.kafka,
        "S3_PORT": found.s3,
        "PROMETHEUS_PORT": found.prometheus,
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in wanted.items()))
    try:
        found.run("up", "--build", "--detach", "--wait", timeout=900)
        yield found
    finally:
        down = ["docker", "compose", "-p", found.project, "--env-file", str(tmp_path / ".env")]
        subprocess.run([*down, "--profile", "prometheus", "down", "--volumes", "--timeout", "3"], cwd=ROOT)
        subprocess.run(["docker", "image", "rm", "--force", found.project], capture_output=True)


def environment(compose: Compose) -> dict[str, str]:
    """Return the settings of a command on the host."""
    secrets = dict(line.split("=", 1) for line in (compose.folder / ".env").read_text().splitlines())
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return mine | {
        "PYTHONPATH": str(ROOT),
        "MILLSTREAM_KAFKA": f"127.0.0.1:{compose.kafka}",
        "MILLSTREAM_S3_ENDPOINT": f"http://127.0.0.1:{compose.s3}",
        "MILLSTREAM_S3_ACCESS_KEY": secrets["S3_ACCESS_KEY"],
        "MILLSTREAM_S3_SECRET_KEY": secrets["S3_SECRET_KEY"],
    }


def write(compose: Compose, name: str, rows: int) -> tuple[Path, bytes]:
    """Write a file with a reject in a thousand rows; return it, and the result as DuckDB computes it."""
    file, out = compose.folder / name, compose.folder / f"oracle-{name}"
    with duckdb.connect() as oracle:
        oracle.execute(SOURCE.format(rows=rows, file=file))
        oracle.execute(ORACLE.format(file=file, out=out))
    return file, out.read_bytes()


@pytest.mark.timeout(1200)
def test_the_stack_computes_files_while_workers_come_and_prometheus_watches(compose: Compose) -> None:
    env = environment(compose)
    file, result = write(compose, "pushed.csv", PUSHED)
    (compose.folder / "millstream.toml").write_text(CONFIG)
    pushed = millstream("push", str(file), "--wait", folder=compose.folder, env=env, timeout=120)
    assert pushed.returncode == 0, pushed.stderr + compose.logs()
    assert compose.get("/results/pushed.csv").content == result

    file, result = write(compose, "dropped.csv", ROWS)
    with file.open("rb") as body:
        url = f"http://127.0.0.1:{compose.http}/uploads/dropped.csv"
        assert httpx.put(url, content=body, timeout=120).status_code == 201
    compose_is_computing = 'sum(millstream_rows_total{service="process"})'
    wait_until(lambda: compose.figure(compose_is_computing) > PUSHED, 60)
    assert compose.get("/jobs/dropped.csv").json()["state"] != "published", (
        "the file is too small for this test"
    )
    compose.run("up", "--detach", "--wait", "--no-recreate", "--scale", "process=2")
    wait_until(lambda: compose.get("/jobs/dropped.csv").json()["state"] == "published", 200)
    answer = compose.get("/results/dropped.csv")
    assert answer.content == result
    receipt = compose.get("/receipts/dropped.csv").json()
    assert (receipt["rows"], receipt["rejected"]) == (ROWS, ROWS // 1000)

    def scraped() -> bool:
        up = [name.partition(" ")[0] for name, value in compose.figures("up == 1").items()]
        return sorted(up) == sorted([*STAGES, "process"])

    wait_until(scraped, 60)
    wait_until(lambda: compose.figure("millstream_captured_rows_total") == ROWS, 30)
    wait_until(lambda: compose.figure("sum(millstream_published_rows_total)") == ROWS + PUSHED, 30)
    assert compose.figure('sum(millstream_published_rows_total{fate="rejected"})') == (ROWS + PUSHED) // 1000
    wait_until(lambda: sorted(compose.figures("millstream_partitions > 0").values()) == [2, 2, 4], 30)
    rules = httpx.get(f"http://127.0.0.1:{compose.prometheus}/api/v1/rules").json()["data"]["groups"]
    assert len(rules[0]["rules"]) == 7

    compose.run("stop", "--timeout", "20")
    ended = [json.loads(line) for line in compose.run("ps", "--all", "--format", "json").splitlines()]
    codes = {service["Name"]: service["ExitCode"] for service in ended if service["Service"] in STAGES}
    assert len(codes) == 5
    assert set(codes.values()) == {0}, compose.logs()

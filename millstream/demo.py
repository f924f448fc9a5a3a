"""`millstream demo`: a sample goes in, the computed CSV comes out and is checked; in a temporary folder, on free ports.

It does what a user would do, by the same commands: `up`, `push --wait`, and HTTP.
"""

import csv
import difflib
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from millstream import kafka_server, process
from millstream.fetching import shown_progress
from millstream.process import Command
from pipeline.errors import Permanent, Unreachable
from pipeline.settings import Settings

SAMPLE = Path(__file__).with_name("examples")
NAME = "orders.csv"

_UP_SECONDS = 60.0
_PUSH_SECONDS = 60.0


def demo(settings: Settings, console: Console | None = None) -> None:
    """Run the demo; of the settings only `kafka_jars` and the cache count.

    Raises Permanent where what comes back is not what was expected, Unreachable where nothing does.
    """
    console = console or Console()
    began = time.monotonic()
    with shown_progress() as progress:
        jars = kafka_server.jars_for(settings.kafka_jars, settings.cache_folder, progress)
    with tempfile.TemporaryDirectory(prefix="millstream-demo-") as folder:
        here = Path(folder)
        for file in (SAMPLE / NAME, SAMPLE / "millstream.toml"):
            shutil.copy(file, here)
        with _step(console, "start Apache Kafka, an S3 server, and every stage"):
            up = _start(here, jars)
        try:
            with _step(console, "wait until the reader says it is ready"):
                http = _ready(up, here)
            with _step(console, f"millstream push {NAME} --wait"):
                _push(here)
            with _step(console, f"GET /results/{NAME}, /rejects/{NAME}, /receipts/{NAME}"):
                result, rejects = _get(f"{http}/results/{NAME}"), _get(f"{http}/rejects/{NAME}")
                receipt = json.loads(_get(f"{http}/receipts/{NAME}"))
        finally:
            with _step(console, "end everything"):
                process.stop([up], timeout=10)
        text = (here / NAME).read_text(encoding="utf-8")
    _show(console, http, text, result, rejects, receipt)
    check(text, result, rejects, receipt)
    console.print(
        f"[bold green]Right:[/] the CSV fetched over HTTP is what it should be, and its receipt balances. "
        f"{time.monotonic() - began:.1f} s in all; nothing is left running."
    )


def expected(text: str) -> tuple[str, list[int]]:
    """What must come out of the sample, computed with Python's csv and decimal: the result's CSV, the rejected rows."""
    header, *rows = csv.reader(io.StringIO(text))
    out, rejected = ["order_id,total"], []
    for number, row in enumerate(rows):
        if len(row) != len(header):
            rejected.append(number)
            continue
        order = dict(zip(header, row, strict=True))
        try:
            total = (
                int(order["quantity"]) * Decimal(order["price"])
                if order["quantity"] and order["price"]
                else ""
            )
        except (ValueError, InvalidOperation):
            rejected.append(number)
            continue
        out.append(f"{order['order_id']},{total}")
    return "\n".join(out) + "\n", rejected


def check(text: str, result: str, rejects: str, receipt: dict[str, Any]) -> None:
    """Raise Permanent, with the difference, where the result isn't as expected or the account doesn't balance."""
    wanted, rejected = expected(text)
    if result != wanted:
        lines = difflib.unified_diff(
            wanted.splitlines(), result.splitlines(), "expected", "fetched", lineterm=""
        )
        raise Permanent("the fetched CSV is not what was expected:\n" + "\n".join(lines))
    found = sorted(int(row["_row"]) for row in csv.DictReader(io.StringIO(rejects)))
    if found != rejected:
        raise Permanent(f"rows {rejected} were to be rejected, and rows {found} were")
    rows, results = len(list(csv.reader(io.StringIO(text)))) - 1, wanted.count("\n") - 1
    account = {key: receipt[key] for key in ("rows", "results", "rejected")}
    if account != {"rows": rows, "results": results, "rejected": len(rejected)}:
        raise Permanent(
            f"the receipt says {account}: {rows} rows went in, {results} came out, {len(rejected)} were rejected"
        )


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    began = time.monotonic()
    with console.status(what):
        yield
    console.print(f"[green]✓[/] {what} [dim]{time.monotonic() - began:.1f} s[/]", highlight=False)


def _command(folder: Path, name: str, *arguments: str) -> Command:
    """One of our own commands, with no settings but those of `folder`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MILLSTREAM_")}
    root = str(Path(__file__).parents[1])  # found without being installed, too
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return Command(name, (sys.executable, "-m", "millstream", *arguments), folder, environment, signal.SIGINT)


def _start(folder: Path, jars: Path) -> tuple[Command, process.Process]:
    command = _command(folder, "millstream up", "--set", f"kafka_jars={jars}", "up", "--port", "0")
    with (folder / "up.out").open("wb") as output:
        return command, process.start(command, output)


def _ready(up: tuple[Command, process.Process], folder: Path) -> str:
    """Wait until the reader is ready; returns its address."""
    address = ""

    def ready() -> bool:
        nonlocal address
        try:
            address = json.loads((folder / ".millstream" / "up.json").read_text())["http"]
            with urllib.request.urlopen(f"{address}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError, KeyError):
            return False

    process.wait_ready(*up, ready, timeout=_UP_SECONDS, log=folder / "up.out")
    return address


def _push(folder: Path) -> None:
    command = _command(folder, "millstream push", "push", NAME, "--wait")
    log = folder / "push.out"
    with log.open("wb") as output:
        child = process.start(command, output)
    try:
        child.wait(_PUSH_SECONDS)
    except process.TimedOut:
        raise Unreachable(
            f"{NAME} was not done after {_PUSH_SECONDS:.0f} s; push says:\n{process.tail(log)}\n"
            f"and the stages:\n{process.tail(folder / 'up.out', 40)}"
        ) from None
    finally:
        process.stop([(command, child)], timeout=2)
    if child.returncode:
        raise Permanent(
            f"millstream push ended with exit code {child.returncode}:\n{process.tail(log)}\n"
            f"and the stages:\n{process.tail(folder / 'up.out', 40)}"
        )


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as error:
        raise Permanent(
            f"GET {url} answers {error.code}: {error.read().decode('utf-8', 'replace')}"
        ) from None
    except OSError as error:
        raise Unreachable(f"GET {url}: {error}") from None
    return content.decode("utf-8")


def _show(console: Console, http: str, text: str, result: str, rejects: str, receipt: dict[str, Any]) -> None:
    def code(content: str, language: str) -> Syntax:
        return Syntax(content.rstrip("\n"), language, background_color="default", word_wrap=True)

    table = Table("row", "why it is not in the result", box=None, pad_edge=False)
    for row in csv.DictReader(io.StringIO(rejects)):
        table.add_row(row["_row"], row["_error"])
    account = {key: receipt[key] for key in ("name", "generation", "file_id", "rows", "results", "rejected")}
    calculation = (SAMPLE / "millstream.toml").read_text(encoding="utf-8").split("\n\n")[1]
    calculation = re.sub(r" +# .*", "", calculation)
    console.print(
        Group(
            Panel(code(text, "text"), title=f"in: {NAME}", title_align="left"),
            Panel(code(calculation, "toml"), title="millstream.toml", title_align="left"),
            Panel(code(result, "text"), title=f"out: GET {http}/results/{NAME}", title_align="left"),
            Panel(table, title=f"rejected: GET {http}/rejects/{NAME}", title_align="left"),
            Panel(code(json.dumps(account, indent=2), "json"), title="receipt", title_align="left"),
        )
    )

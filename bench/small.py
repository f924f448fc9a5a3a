"""small: many files of 100 rows, from disk to published results, against one file with all of their rows.

`ours` is one command `millstream push FILE… --wait` with all files: the clock starts before the command does, and ends when
that has ended. The other clock of ours leaves out the command's start: it starts within the process, when `push` is called and
all is imported. `watch` has the files in the bucket before it starts; its clock starts when it says that it is watching. These
two end when the sink says that the last job is published. The one file is measured by both clocks too, as the chain's is. Every
CSV is compared with the oracle's, byte by byte. `--rows` are those of all files together.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import chain, usage
from bench.context import Context
from bench.data import Oracle
from bench.measured import WITH_START, WITHOUT_START, Measured, Participant
from bench.place import Place
from bench.processes import Broken
from bench.usage import Usage
from pipeline.jobs import Receipt

ROWS = 100


@contextmanager
def participants(context: Context) -> Iterator[dict[str, Participant]]:
    """Ours by `push` and both clocks, by `watch`, and the chain with one file."""
    yield {
        "ours": partial(_command, context),
        f"ours{WITHOUT_START}": partial(_push, context),
        "ours by watch": partial(_watch, context),
        "one file": partial(chain.ours, context),
        f"one file{WITHOUT_START}": partial(chain.without_start, context),
    }


def _command(context: Context) -> Measured:
    with context.services.place() as here:
        names = [str(path.relative_to(here.folder)) for path in sorted(cut(here, context.oracle()).iterdir())]
        chain.start_stages(here)
        before = here.processes.usage()
        ran = here.run("push", *names, "--wait", timeout=_timeout(context))
        used = {"push": ran.used, **usage.between(before, here.processes.usage())}
        measured = _measured(context, here, ran.seconds, used)
        measured.notes[WITH_START] = True
        return measured


def _push(context: Context) -> Measured:
    with context.services.place() as here:
        files = cut(here, context.oracle())
        chain.start_stages(here)
        before = here.processes.usage()
        here.start("push", "-m", "bench.programs.push", str(files))
        said = here.processes.said("push", "done", timeout=_timeout(context))
        end = _published(context, here)
        used = usage.between(before, here.processes.usage())
        used = {"push": Usage(said["cpu_s"], said["peak_mb"]), **used}
        return _measured(context, here, end - said["start"], used)


def _watch(context: Context) -> Measured:
    with context.services.place() as here:
        _upload(here, cut(here, context.oracle()))
        chain.start_stages(here)
        before = here.processes.usage()
        here.start("watch", "-m", "producer", "watch")
        start = here.processes.said("watch", "watching")["when"]
        end = _published(context, here)
        after = here.processes.usage()
        used = {"watch": after["watch"], **usage.between(before, after)}
        return _measured(context, here, end - start, used)


def cut(here: Place, oracle: Oracle, rows: int = ROWS) -> Path:
    """Cut the file into small ones of so many rows, each with the header."""
    header, *lines = oracle.path.read_bytes().splitlines(keepends=True)
    folder = here.folder / "small"
    folder.mkdir()
    for number, first in enumerate(range(0, len(lines), rows)):
        (folder / f"orders-{number:05}.csv").write_bytes(header + b"".join(lines[first : first + rows]))
    return folder


def _upload(here: Place, files: Path) -> None:
    client = here.s3.client()
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda path: client.upload_file(str(path), here.s3.uploads, path.name),
                sorted(files.iterdir()),
            )
        )


def _published(context: Context, here: Place) -> float:
    """Return when the last job was published."""
    count = -(-context.rows // ROWS)
    when: float = here.processes.said("sink", "job published", count, timeout=_timeout(context))["when"]
    return when


def _measured(context: Context, here: Place, seconds: float, used: dict[str, Usage]) -> Measured:
    compare(here, context.oracle())
    files = -(-context.rows // ROWS)
    figures = {"rows_per_s": context.rows / seconds, "files_per_s": files / seconds, "seconds": seconds}
    return Measured(figures, used, {"checked": True, "files": files})


def compare(here: Place, oracle: Oracle, rows: int = ROWS) -> None:
    """Compare every published CSV with its piece of the oracle's."""
    header, *lines = oracle.csv.splitlines(keepends=True)
    client = here.s3.client()

    def get(key: str) -> bytes:
        content: bytes = client.get_object(Bucket=here.s3.results, Key=key)["Body"].read()
        return content

    def one(number: int) -> None:
        name = f"orders-{number:05}.csv"
        wanted = header + b"".join(lines[number * rows : (number + 1) * rows])
        receipt = Receipt.load(get(f"_millstream/receipts/{name}.json"))
        if receipt.output is None or not receipt.balances or get(receipt.output.key) != wanted:
            raise Broken(f"the CSV of {name} is unlike the oracle's")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(-(-len(lines) // rows))))


def _timeout(context: Context) -> float:
    """Return the seconds after which the files will never be done: one a second, and two minutes."""
    return 120 + context.rows / ROWS

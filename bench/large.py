"""soak --size 2GB: one large CSV through `up`, by `millstream push FILE --wait`, and what `up` took for it.

The file is made for this and removed afterwards; on disk there are at a time the file, the copy of it that `push` makes, what
S3 stores of it, the result, and what the broker has in flight. Too large for an oracle that is compared byte by byte: the
receipt has to say that every row was computed and none rejected, and `millstream verify` that what is stored is what the
receipt says.
"""

import tempfile
from pathlib import Path

import httpx

from bench.data import write_csv
from bench.footprint import Footprint
from bench.processes import Broken
from bench.running import Up, up
from bench.soak import Json, Tell, dumped, of_push, told
from pipeline.jobs import Receipt

NAME = "orders-large.csv"
_SAMPLE = 100_000
_SLOWEST = 5_000  # rows/s


def push(size: int, tell: Tell) -> tuple[int, list[Json]]:
    """Push one CSV of about `size` bytes; return the rows, and what was measured."""
    with tempfile.TemporaryDirectory(prefix="millstream-soak-") as folder, up(Path(folder)) as running:
        path = running.folder / NAME
        rows = rows_of(size, running.folder)
        tell(f"writing {rows:,} rows …")
        write_csv(path, rows)
        bytes_given = path.stat().st_size
        with Footprint(running) as footprint:
            footprint.lap()
            tell(f"pushing {bytes_given / 1e9:.2f} GB …")
            ran = running.run("push", NAME, "--wait", timeout=600 + rows / _SLOWEST)
            lap = footprint.lap()
            path.unlink()
            _check_receipt(running, rows, bytes_given)
            verified = running.run("verify", NAME, timeout=600 + rows / _SLOWEST)
            lap.peaks(footprint.lap())
            restarts = footprint.restarts
        measured = of_push(rows, ran, lap)
        measured.figures |= {"gb": bytes_given / 1e9, "verify_s": verified.seconds}
        tell(told(measured))
        return rows, dumped([measured], restarts)


def rows_of(size: int, folder: Path) -> int:
    """Return how many rows make about `size` bytes, judged by a sample that is written to `folder` and removed."""
    sample = folder / "sample.csv"
    write_csv(sample, _SAMPLE)
    rows = size * _SAMPLE // sample.stat().st_size
    sample.unlink()
    return max(rows, 1)


def parsed_size(text: str) -> int:
    """Return the bytes that a text such as 2GB or 500MB means; raise ValueError for any other."""
    number, unit = text[:-2], text[-2:].upper()
    return round(float(number) * {"MB": 10**6, "GB": 10**9}[unit]) if unit in {"MB", "GB"} else int(text)


def _check_receipt(running: Up, rows: int, size: int) -> None:
    answer = httpx.get(f"{running.record['http']}/receipts/{NAME}", timeout=60)
    receipt = Receipt.load(answer.raise_for_status().content)
    counts = (receipt.rows, receipt.results, receipt.rejected)
    if counts != (rows, rows, 0) or receipt.source is None or receipt.source.size != size:
        raise Broken(f"{rows:,} rows of {size:,} bytes were pushed, and the receipt says {receipt}")

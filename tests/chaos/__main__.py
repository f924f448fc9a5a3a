"""`python -m tests.chaos`: many runs, each from a seed, their table in RESULTS.md.

python -m tests.chaos --runs 100 --broker cluster --jobs 2     seeds from 1 on
python -m tests.chaos --seed 17 --broker up                    one run again
python -m tests.chaos --seed 17 --broker up --plan             what it would do
"""

import argparse
import itertools
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from tests.chaos import results
from tests.chaos.plan import BrokerKind, Plan, draw
from tests.chaos.run import Outcome, Services, run

RENEW = 40
"""Runs after which the services are started anew: what each leaves behind on the S3 server adds up."""


def main() -> int:
    """Do the runs; 1 where one of them went wrong."""
    given = _arguments()
    seeds = given.seed or list(range(given.first, given.first + given.runs))
    brokers: list[BrokerKind] = ["up", "cluster"] if given.broker == "both" else [given.broker]
    plans = [draw(seed, broker) for seed in seeds for broker in brokers]
    if given.plan:
        print("\n".join(plan.describe() for plan in plans))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    batch = _Batch(plans, folder, given.record)
    threads = [threading.Thread(target=batch.work, args=(number,)) for number in range(given.jobs)]
    for thread in threads:
        thread.start()
    # Killed by SIGTERM at once, it would leave a container behind; a shell has what it starts with & ignore SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: batch.end())
    for thread in threads:
        thread.join()
    if given.record:
        results.write_table()
    print(
        f"{batch.done} runs, {batch.failed} of them wrong"
        + (f"; their logs: {folder}" if batch.failed else "")
    )
    if not batch.failed:
        shutil.rmtree(folder)
    return 1 if batch.failed else 0


class _Batch:
    """The runs, handed out to threads, each with services of its own."""

    def __init__(self, plans: list[Plan], folder: Path, record: bool) -> None:
        self._plans: Iterator[tuple[int, Plan]] = iter(enumerate(plans, 1))
        self._total = len(plans)
        self._folder = folder
        self._record = record
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.done = self.failed = 0

    def end(self) -> None:
        """Begin no further run."""
        print("ending after the runs under way", file=sys.stderr)
        self.stop.set()

    def work(self, number: int) -> None:
        """Do runs until there are none left."""
        for turn in itertools.count():
            place = self._folder / f"services-{number}-{turn}"
            place.mkdir()
            services = Services(place)
            try:
                if not self._some(services):
                    return
            finally:
                services.close()
                shutil.rmtree(place, ignore_errors=True)

    def _some(self, services: Services) -> bool:
        for _ in range(RENEW):
            with self._lock:
                item = next(self._plans, None)
            if item is None or self.stop.is_set():
                return False
            self._one(*item, services)
        return True

    def _one(self, number: int, plan: Plan, services: Services) -> None:
        folder = self._folder / f"{plan.broker}-{plan.seed}"
        try:
            outcome = run(plan, services, folder)
        except Exception:
            outcome = Outcome([traceback.format_exc()], 0, 0, 0.0, 0.0, 0, [])
        with self._lock:
            self.done += 1
            self.failed += bool(outcome.wrong)
            if self._record:
                results.record(plan, outcome)
            self._say(number, plan, outcome, folder)

    def _say(self, number: int, plan: Plan, outcome: Outcome, folder: Path) -> None:
        faults = ", ".join(results.labels(plan))
        verdict = "WRONG" if outcome.wrong else "right"
        times = f"{outcome.seconds:5.1f} s, right again after {outcome.recovery:5.1f} s"
        print(f"{number:3}/{self._total} {plan.broker} {plan.seed}: {verdict} {times}: {faults}", flush=True)
        if outcome.wrong:
            print("\n".join([plan.describe(), *outcome.said, *outcome.wrong, f"logs: {folder}"]), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=20, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, action="append", help="this seed, and no other")
    parser.add_argument("--broker", choices=["up", "cluster", "both"], default="up")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with services of its own")
    parser.add_argument("--plan", action="store_true", help="print the plans, and do nothing")
    parser.add_argument("--record", action="store_true", help="add the runs to tests/chaos/RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

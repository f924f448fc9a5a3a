"""What the workers of `watch` do about what fails."""

import threading

import pytest

from pipeline import metrics
from pipeline.errors import Refused
from pipeline.kafka import Publisher
from producer.lanes import LARGE, Lanes, Troubles
from tests.unit.capture_doubles import SETTINGS, Recorder
from tests.wait import wait_until

NAME = "orders.csv"


class Local(Lanes):
    """Lanes whose publishers reach no broker."""

    def _publisher(self) -> Publisher:
        return Recorder()  # type: ignore[return-value]


def given_up() -> float:
    return (
        metrics.REGISTRY.get_sample_value(
            "millstream_files_total", {"stage": "capture", "outcome": "given_up"}
        )
        or 0.0
    )


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Refused("S3 says no to orders.csv"), "given up: S3 says no to orders.csv"),
        (ValueError("a fault of ours"), "given up: ValueError: a fault of ours"),
    ],
    ids=["refused", "unforeseen"],
)
@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
def test_what_is_given_up_is_said_and_counted_until_it_is_begun_again(
    error: Exception, why: str, size: int
) -> None:
    """Readiness and progress have it from `troubles`; the worker goes on with others."""
    troubles: Troubles = {}
    stop = threading.Event()
    lanes = Local(SETTINGS, stop, troubles)
    before = given_up()

    def fails(_publisher: Publisher) -> None:
        raise error

    lanes.submit(size, NAME, fails)
    wait_until(lambda: NAME in troubles)
    assert troubles == {NAME: why}
    assert given_up() == before + 1
    lanes.submit(size, NAME, lambda _publisher: None)
    wait_until(lambda: NAME not in troubles)
    assert given_up() == before + 1
    stop.set()
    lanes.close()


def test_what_failed_leaves_nothing_behind_for_what_its_worker_does_next() -> None:
    """A publisher goes on to tell of a message that failed until it forgets it."""
    forgotten: list[str] = []

    class Failing(Lanes):
        def _publisher(self) -> Publisher:
            publisher = Recorder()
            publisher.forget = lambda: forgotten.append(NAME)  # type: ignore[method-assign]
            return publisher  # type: ignore[return-value]

    def fails(_publisher: Publisher) -> None:
        raise Refused("Kafka says no")

    troubles: Troubles = {}
    lanes = Failing(SETTINGS, threading.Event(), troubles)
    lanes.submit(0, NAME, fails)
    wait_until(lambda: NAME in troubles)
    assert forgotten == [NAME]

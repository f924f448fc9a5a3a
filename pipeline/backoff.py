"""How long to wait between two tries at what fails for the moment, and how often to say so. Times come from tenacity."""

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)

from pipeline.errors import Transient

log = structlog.get_logger("start")

FIRST, LONGEST, JITTER = 0.2, 5.0, 0.2
"""Seconds: the first wait, the longest, and how much by chance is added, so that many don't come back together."""

_exponential = wait_exponential(FIRST, LONGEST) + wait_random(0, JITTER)

T = TypeVar("T")


def pause(tries: int) -> float:
    """Return the seconds to wait after so many failures before: twice as long each time, five and a bit at most."""
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = min(tries, 20) + 1
    return _exponential(state)


def is_worth_saying(tries: int) -> bool:
    """Whether a failure is logged: the first, the eleventh, then one in sixty."""
    return tries in {0, 10} or tries % 60 == 0


def until_there(look: Callable[[], T], reasons: list[str]) -> T:
    """Return what `look` returns, once the services that it needs answer; a stage that starts before them waits.

    While it waits, `reasons` says why, for whoever asks whether the stage is ready; the log says it now and then. Raises what
    is permanent at once. A stage that is asked to end meanwhile has begun nothing, and is gone: see `pipeline.signals`.
    """

    def say(failures: int, error: BaseException) -> None:
        reasons[:] = [str(error)]
        if is_worth_saying(failures):
            log.warning("waiting at the start", why=reasons[0])

    found = until_it_works(look, threading.Event(), say)
    reasons.clear()
    return found


def until_it_works(
    work: Callable[[], T],
    stop: threading.Event,
    say: Callable[[int, BaseException], None],
    *,
    first: float = FIRST,
    longest: float = LONGEST,
) -> T:
    """Return what `work` returns, once it raises no Transient error any more; that error where `stop` was set meanwhile.

    Waits `first` to `longest` seconds between two tries. Before each, `say` is told how often it had failed before, and why.
    """

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        assert error is not None
        say(state.attempt_number - 1, error)

    retrying = Retrying(
        retry=retry_if_exception_type(Transient),
        wait=wait_exponential(first, longest) + wait_random(0, first),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=before_sleep,
        reraise=True,
    )
    return retrying(work)

"""Counts and times each call of S3 where boto3 sends it, its own retries included; by kind and outcome, never by key."""

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from pipeline import metrics

_OUTCOMES = {401: "refused", 403: "refused", 404: "not_found", 409: "precondition", 412: "precondition"}


def measure(client: Any) -> None:
    """Have every call of a boto3 client measured from now on."""
    meter = _Meter()
    client.meta.events.register("before-send.s3", meter.sent)
    client.meta.events.register("response-received.s3", meter.answered)


class _Meter:
    """boto3's hooks: a call is sent and answered on one thread, one after the other."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._own = threading.local()

    def sent(self, **_: Any) -> None:
        """A try begins."""
        self._own.began = self._now()

    def answered(self, event_name: str, response_dict: Any, exception: Exception | None, **_: Any) -> None:
        """A try has its answer, or none."""
        operation = event_name.rpartition(".")[2]
        now = self._now()
        _calls(operation, outcome(response_dict, exception)).inc()
        _seconds(operation).observe(now - getattr(self._own, "began", now))


@cache
def _calls(operation: str, outcome: str) -> Any:
    """Return the counter of some calls: to find it among all takes longer than to move it."""
    return metrics.S3_CALLS.labels(operation, outcome)


@cache
def _seconds(operation: str) -> Any:
    return metrics.S3_SECONDS.labels(operation)


def outcome(response: Any, exception: Exception | None) -> str:
    """Return what a try came to; `response` is boto3's, None where nothing came."""
    if exception is not None or response is None:
        return "unreachable"
    status: int = response["status_code"]
    if status < 400:
        return "ok"
    if status == 429 or status >= 500:
        return "throttled"
    return _OUTCOMES.get(status, "error")

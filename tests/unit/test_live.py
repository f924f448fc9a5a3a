"""The snapshot that all watchers of the page share."""

import asyncio
import json
from typing import cast

import pytest
from structlog.testing import capture_logs

from pipeline.picture import Picture
from sink import http_live
from sink.http_catalogue import Catalogue


class FailsOnce:
    """A catalogue whose first answer is a fault that nobody foresaw."""

    def __init__(self) -> None:
        self.asked = 0

    async def version(self) -> int:
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("a fault")
        return 7


def test_a_fault_costs_one_snapshot_and_not_all_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_live, "EVERY", 0.01)

    async def watch() -> bytes:
        live = http_live.Live(Picture(), cast(Catalogue, FailsOnce()))
        live.watch()
        assert await live.next(5)
        live.leave()
        return live.data

    with capture_logs() as logged:
        data = asyncio.run(watch())
    assert json.loads(data)["files"] == 7
    assert [line["event"] for line in logged] == ["no snapshot made"]

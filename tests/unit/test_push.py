"""`push` when another upload of the same name comes between."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.dialect import DialectOverrides
from pipeline.errors import JobEnded
from pipeline.kafka import Publisher
from producer.progress import Silent
from producer.push import _look_at, _push
from tests.unit.capture_doubles import SETTINGS, Recorder, Steps, csv, stage


def test_who_is_replaced_before_being_captured_is_told_so(tmp_path: Path) -> None:
    """Never that its file was captured, or published: what was is another."""

    class Overtaken(Steps):
        def upload(self, key: str, chunks: Any, **more: Any) -> str:
            etag = super().upload(key, chunks, **more)
            self.put(key, csv(5))
            return etag

    path = tmp_path / "orders.csv"
    path.write_bytes(csv(3))
    told, sender = DialectOverrides(), Recorder()
    with ExitStack() as contents:
        file = _look_at(path, SETTINGS, None, told, contents, Silent())
        with pytest.raises(JobEnded, match=r"another upload called orders\.csv took its place"):
            _push(stage(Overtaken()), file, told, False, cast(Publisher, sender), contents, Silent())
        assert sum(not key.endswith(b":end") for _, key, _ in sender.messages) == 5
        _push(stage(), file, told, False, cast(Publisher, Recorder()), contents, Silent())

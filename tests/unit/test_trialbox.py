"""What `/try` runs is a process of its own that ends in time, whatever it is given."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from millstream import trialbox
from pipeline.errors import Transient

CALCULATION = '[calculations.mine]\nmatch = "*.csv"\nid = "a"\noutputs = { b = "%s" }\n'


def request(expression: str) -> bytes:
    content = base64.b64encode(b"a\n1\n2\n").decode()
    wanted = {"name": "x.csv", "content": content, "whole": True, "calculation": CALCULATION % expression}
    return json.dumps(wanted).encode()


def children() -> set[str]:
    """The ids of this process's children, as Linux has them."""
    return {
        child for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()
    }


def never() -> bool:
    return False


def test_a_try_answers_with_rows_or_with_what_is_wrong() -> None:
    found: dict[str, Any] = json.loads(trialbox.run(request("a || '!'"), never))
    assert [row["results"] for row in found["rows"]] == [["1!"], ["2!"]]
    assert "nothere" in json.loads(trialbox.run(request("nothere + 1"), never))["error"]


def test_a_try_tells_why_rows_would_be_rejected_by_kind() -> None:
    short = base64.b64encode(b"a,b\n" + b"1\n" * 100 + b"x,y\n").decode()
    wanted = {
        "name": "x.csv",
        "content": short,
        "whole": True,
        "calculation": CALCULATION % "CAST(a AS BIGINT)",
    }
    found = json.loads(trialbox.run(json.dumps(wanted).encode(), never))
    assert found["rejected"] == 101
    first, second = found["reasons"]
    assert (first["text"], first["count"], first["row"]) == ("expected … fields, found …", 100, 0)
    assert (second["count"], second["row"]) == (1, 100)


def test_a_try_takes_more_than_a_pipe_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 KB in base64, which are read long after the first look at whether to stop."""
    monkeypatch.setattr(trialbox, "_LOOK", 0.001)
    content = base64.b64encode(b"a\n" + b"1234567\n" * 8000).decode()
    wanted = {"name": "x.csv", "content": content, "whole": False, "calculation": CALCULATION % "a"}
    assert json.loads(trialbox.run(json.dumps(wanted).encode(), never))["computed"] == 1000


def test_a_try_is_killed_as_soon_as_the_reader_is_to_end() -> None:
    """It is still loading DuckDB then; what waits for its turn isn't started at all."""
    asked = iter([False, True])
    before = children()
    with pytest.raises(Transient, match="the reader is ending"):
        trialbox.run(request("a"), lambda: next(asked))
    assert children() <= before


def test_a_try_that_takes_too_long_is_killed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trialbox, "SECONDS", 0.3)
    before = children()
    began = time.monotonic()
    assert "it took longer than" in json.loads(trialbox.run(request("a"), never))["error"]
    assert time.monotonic() - began < 5
    assert children() <= before

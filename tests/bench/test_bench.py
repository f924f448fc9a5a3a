"""The measurements themselves: that they run, check what they measure, and can be read afterwards."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import chain, check, processor, report
from bench.context import Context
from bench.data import Oracle, write_csv
from bench.floors import Floor
from bench.measured import WITH_START, WITHOUT_START, document, median, repeat
from bench.place import Services
from bench.processes import Broken
from bench.usage import Usage
from tests.services.kafka import Broker
from tests.services.s3 import S3

ROWS = 50_000


@pytest.fixture
def context(tmp_path: Path, broker: Broker, s3_server: S3) -> Context:
    return Context(Services(broker, s3_server, tmp_path), ROWS, frozenset(), lambda _: None)


def test_the_chain_and_its_ceiling_are_measured_and_reported(context: Context, tmp_path: Path) -> None:
    with chain.participants(context) as participants:
        found = document("chain", ROWS, repeat(participants, 1, lambda _: None), ["chain"], 0.1)
    for name in ("ours", f"ours{WITHOUT_START}"):
        assert found["median"][name]["rows_per_s"]["median"] > 0
        assert found["median"][name]["processes"].keys() == {"push", "processor", "sink", "broker", "s3"}
        assert found["median"][name]["processes"]["push"]["cpu_s"]["median"] > 0
    assert found["median"]["ours"][WITH_START]
    (tmp_path / "chain.json").write_text(json.dumps([found]))
    report.write([tmp_path / "chain.json"], tmp_path / "RESULTS.md", tmp_path / "chart.svg")
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| of the bare chain | ≥ 0.55 |" in text
    assert "| rows/s, without the command's start | ≥ 100,000 |" in text
    assert "bare chain</text>" in (tmp_path / "chart.svg").read_text()


def test_the_processor_is_measured_from_outside(context: Context) -> None:
    """Its results are compared with the oracle, its committed offsets with the topic's end."""
    longer = replace(
        context, rows=4 * ROWS
    )  # it has to take much longer than a look at the topic on a busy machine
    found = processor.ours(longer)
    assert found.notes["committed"]
    assert found.figures["rows_per_s"] > 0


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda values: values[:-1], "1 rows are missing, the first is 9"),
        (lambda values: [values[0].replace(b'"total":', b'"total":1'), *values[1:]], "total of row 0 is"),
        (lambda values: [values[1], values[0], *values[2:]], "order_id of row 0 is 00000001, not 00000000"),
    ],
)
def test_a_wrong_or_missing_result_gives_no_figure(
    spoil: object, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(spoil)
    write_csv(tmp_path / "orders.csv", 10)
    oracle = Oracle(tmp_path / "orders.csv")
    values = [
        b'{"order_id":"%b","total":%b,"net":%b}'
        % (row["order_id"].encode(), str(row["total"]).encode(), repr(row["net"]).encode())
        for row in oracle.results.to_pylist()
    ]
    spoilt = spoil(values)
    keys = [b"%b:%d" % (b"0" * 32, row) for row in range(len(spoilt))]

    def read(content: list[bytes]) -> None:
        monkeypatch.setattr(check, "messages", lambda *_: iter([(keys[: len(content)], content)]))

    keys = [b"%b:%d" % (b"0" * 32, row) for row in range(10)]
    settings = None
    read(values)
    assert check.results_topic(settings, "results", oracle, exact=True) == 0  # type: ignore[arg-type]
    read(spoilt)
    with pytest.raises(Broken, match=complaint):
        check.results_topic(settings, "results", oracle, exact=True)  # type: ignore[arg-type]


def test_a_peer_that_fails_is_reported_and_ours_that_fails_ends_the_benchmark() -> None:
    def fail() -> object:
        raise Broken("not installable here: no wheel")

    peer = {"peer": fail}
    assert repeat(peer, 2, lambda _: None)[1]["peer"] == {"failed": "not installable here: no wheel"}  # type: ignore[arg-type]
    with pytest.raises(Broken):
        repeat({"ours": fail}, 1, lambda _: None)  # type: ignore[dict-item]


def test_like_is_compared_with_like() -> None:
    """A ceiling's clock starts within its process: it is compared with ours by the clock that does so, too."""
    rates = {
        "ours": (100, True),
        f"ours{WITHOUT_START}": (150, False),
        "ceiling": (300, False),
        "one file": (200, True),
    }
    run = {
        name: {"rows_per_s": rate, "processes": {}} | ({WITH_START: True} if told else {})
        for name, (rate, told) in rates.items()
    }
    times = {name: entry.get("ours_times") for name, entry in median([run]).items()}
    assert times == {"ours": None, f"ours{WITHOUT_START}": None, "ceiling": 0.5, "one file": 0.5}
    one_clock = median([{name: run[name] for name in ("ours", "ceiling")}])
    assert one_clock["ceiling"]["ours_times"] == 0.333


def test_a_floor_says_pass_or_miss_or_nothing() -> None:
    floor = Floor("of the ceiling", lambda summary: summary.get("ratio"), 0.5)
    assert floor.verdict({"ratio": 0.5}) == ("≥ 0.5", "0.50", "pass")
    assert floor.verdict({"ratio": 0.49}) == ("≥ 0.5", "0.49", "**miss**")
    assert floor.verdict({}) is None


def test_what_a_process_used_is_of_a_time_and_its_peak_of_its_life() -> None:
    assert Usage(5.0, 300).since(Usage(2.0, 100)) == Usage(3.0, 300)

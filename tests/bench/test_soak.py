"""The soak: what it sees of an `up`, its arithmetic, its floors and its chart."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import floors, large, report, soak, soak_chart, table
from bench.footprint import Footprint, Lap, disk_mb, resident_mb
from bench.measured import document
from bench.running import OTHER, UP, Up

PARENT = """
import subprocess, sys
child = "import sys; content = bytearray(60_000_000); print('up', flush=True); sys.stdin.read()"
children = [
    subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for _ in range(2)
]
for one in children:
    one.stdout.readline()
print(children[0].pid, flush=True)
input()
for one in children:
    one.communicate()
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Up]:
    """A process with two children of 60 MB, one of which its up.json names."""
    (tmp_path / ".millstream" / "kafka").mkdir(parents=True)
    (tmp_path / ".millstream" / "s3").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        named = int(parent.stdout.readline())
        record = {"http": "http://127.0.0.1:1", "processes": {"kafka": named}}
        (tmp_path / ".millstream" / "up.json").write_text(json.dumps(record))
        yield Up(tmp_path, parent.pid)
        parent.communicate("\n")


def test_all_that_up_started_is_seen_whether_it_is_named_or_not(family: Up) -> None:
    assert sorted(family.processes().values()) == sorted([UP, "kafka", OTHER])
    (family.broker / "segment").write_bytes(b"x" * 3_000_000)
    with Footprint(family) as footprint:
        lap = footprint.lap()
    assert lap.memory_mb == pytest.approx(sum(lap.each_mb.values()))
    assert 60 < lap.each_mb["kafka"] < 100
    assert lap.memory_mb > 120
    assert lap.broker_mb == pytest.approx(3, rel=0.01)
    assert lap.s3_mb == 0
    assert lap.cpu_s.keys() == {UP, "kafka", OTHER}
    assert footprint.restarts == 0


def test_a_process_that_takes_the_place_of_another_is_told(family: Up) -> None:
    footprint = Footprint(family)
    footprint.lap()
    assert footprint.restarts == 0
    [other] = [pid for pid, name in family.processes().items() if name == OTHER]
    record = {**family.record, "processes": {"kafka": other}}
    (family.data / "up.json").write_text(json.dumps(record))
    footprint.lap()
    assert footprint.restarts == 1


def test_disk_is_what_is_allocated_not_what_a_file_says(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(500_000_000)
    assert disk_mb(tmp_path) < 1
    assert disk_mb(tmp_path / "missing") == 0
    assert resident_mb(2**22 + 1) == 0


def test_a_laps_peaks_are_those_of_all_its_parts_and_its_cpu_is_its_own() -> None:
    lap, pause = Lap(cpu_s={"kafka": 2.0}), Lap(cpu_s={"kafka": 9.0})
    lap.note({"kafka": 200, "s3": 100}, broker_mb=50, s3_mb=10)
    lap.note({"kafka": 150, "s3": 200}, broker_mb=20, s3_mb=30)
    pause.note({"kafka": 100, "s3": 300}, broker_mb=70, s3_mb=20)
    assert (lap.memory_mb, lap.broker_mb, lap.s3_mb) == (350, 50, 30)
    lap.peaks(pause)
    assert (lap.memory_mb, lap.broker_mb, lap.s3_mb) == (400, 70, 30)
    assert lap.each_mb == {"kafka": 200, "s3": 300}
    assert lap.cpu_s == {"kafka": 2.0}


def rounds(seconds: list[float], memory: list[float]) -> list[dict[str, Any]]:
    """Rounds with these times and peaks of memory."""
    process = {"cpu_s": 2.5, "peak_mb": 240.0}
    return [
        {
            "ours": {
                "rows_per_s": 1_000_000 / took,
                "push_s": took,
                "memory_mb": mb,
                "broker_mb": 300.0,
                "s3_mb": 40.0,
                "restarts": 0,
                "processes": {"kafka": process},
            }
        }
        for took, mb in zip(seconds, memory, strict=True)
    ]


def test_late_rounds_are_compared_with_rounds_two_to_six() -> None:
    seconds = [30.0, 10, 10, 11, 10, 10, *[99.0] * 4, 12, 12, 40, 12, 12]
    assert soak.trends(rounds(seconds, [1_000.0] * 15)) == {"late_times": 1.2, "memory_trend": 0.0}
    assert soak.trends(rounds(seconds[:7], [1_000.0] * 7)) == {}, "too few rounds to tell"


def test_memory_that_grows_from_round_four_on_is_a_trend() -> None:
    growing = [500.0, 5_000, 700, *(1_000.0 + 100 * number for number in range(11))]
    assert soak.trends(rounds([10.0] * 14, growing))["memory_trend"] == pytest.approx(
        11 * 100 / 1_500, abs=1e-3
    )


@pytest.mark.parametrize(
    ("spoil", "missed"),
    [
        ({}, []),
        ({"push_s": 12.0}, ["last five rounds"]),
        ({"memory_mb": 1_801.0}, ["memory from round 4", "everything in memory"]),
        ({"broker_mb": 1_001.0}, ["broker's disk"]),
        ({"restarts": 1}, ["processes that had to"]),
    ],
)
def test_the_floors_hold_for_every_round(spoil: dict[str, float], missed: list[str]) -> None:
    repetitions = rounds([10.0] * 20, [1_200.0] * 20)
    for repetition in repetitions[-3:]:
        repetition["ours"] |= spoil
    found = document("soak", 1_000_000, repetitions, [], 0.1)
    found["median"]["ours"] |= soak.trends(repetitions)
    verdicts = table.verdicts(found)[1:]
    assert len(verdicts) == 5
    misses = [what for what, *_, verdict in verdicts if verdict != "pass"]
    assert len(misses) == len(missed)
    assert all(what.startswith(start) for what, start in zip(misses, missed, strict=True)), misses


def test_the_chart_has_a_point_for_every_round_between_its_axes() -> None:
    repetitions = rounds([10.0, 12.5, 11.0], [1_200.0, 1_300.0, 1_900.0])
    drawn = ET.fromstring(soak_chart.draw({"rows": 1_000_000, "repetitions": repetitions}))
    svg = "{http://www.w3.org/2000/svg}"
    points = [(float(one.get("cx", "")), float(one.get("cy", ""))) for one in drawn.iter(f"{svg}circle")]
    assert len(points) == 9
    height = float(drawn.get("viewBox", "").split()[3])
    assert all(soak_chart.LEFT < x < soak_chart.WIDTH and 0 < y < height for x, y in points)
    times = [y for _, y in points[:3]]
    assert times[1] < times[2] < times[0], "up is more"
    texts = ["".join(one.itertext()) for one in drawn.iter(f"{svg}text")]
    assert {"Time of a push seconds", "at most 1,800", "at most 1,000", "1", "2", "3", "15"} <= set(texts)


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (12.5, [0, 5, 10, 15]),
        (1_800, [0, 500, 1_000, 1_500, 2_000]),
        (1_000, [0, 250, 500, 750, 1_000]),
        (0, [0]),
    ],
)
def test_axes_have_round_numbers(most: float, marks: list[float]) -> None:
    assert soak_chart.ticks(most)[: len(marks)] == pytest.approx(marks)
    assert soak_chart.ticks(most)[-1] >= most


def test_sizes_are_read_as_written() -> None:
    assert [large.parsed_size(text) for text in ("2GB", "1.5gb", "500MB", "1000")] == [
        2 * 10**9,
        1_500_000_000,
        5 * 10**8,
        1000,
    ]
    with pytest.raises(ValueError, match="lots"):
        large.parsed_size("lots")


def test_a_large_file_has_as_many_rows_as_its_size_holds(tmp_path: Path) -> None:
    assert large.rows_of(5_200_000, tmp_path) == pytest.approx(100_000, rel=0.05)
    assert not list(tmp_path.iterdir())


def test_files_are_pushed_to_one_up_and_reported(tmp_path: Path) -> None:
    told: list[str] = []
    repetitions = soak.rounds(1_000, 2, told.append)
    assert len(told) == len(repetitions) == 2
    found = document("soak", 1_000, repetitions, ["soak"], 0.1)
    found["median"]["ours"] |= soak.trends(repetitions)
    ours = found["median"]["ours"]
    assert ours["checked"]
    assert ours["restarts"]["max"] == 0
    assert {"push", "up", "kafka", "s3", "watch", "process-1", "sink-1", "serve"} <= ours["processes"].keys()
    assert all(used["peak_mb"]["max"] > 10 for name, used in ours["processes"].items() if name != OTHER)
    assert floors.of("soak")[2].verdict(found["median"])
    (tmp_path / "soak.json").write_text(json.dumps(found))
    report.write([tmp_path / "soak.json"], tmp_path / "RESULTS.md", tmp_path / "chart.svg")
    text = (tmp_path / "RESULTS.md").read_text()
    assert "2 rounds" in text
    assert "![each round's time, memory and broker's disk](soak.svg)" in text
    assert "Time of a push" in (tmp_path / "soak.svg").read_text()

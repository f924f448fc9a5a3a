"""A bounded part of the chaos suite; `make chaos` does more of it. `python -m tests.chaos --seed …` does a failed run again."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from tests.chaos.plan import BrokerKind, Event, Kill, NodeDies, Plan, Upload, draw
from tests.chaos.results import label
from tests.chaos.run import Services, run

SEEDS: tuple[tuple[int, BrokerKind], ...] = ((19, "up"), (37, "up"), (24, "cluster"), (3003, "cluster"))
"""The broker dies with its data and without; one of three dies and comes back, or not."""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    started = Services(tmp_path_factory.mktemp("services"))
    yield started
    started.close()


@pytest.mark.parametrize(("seed", "broker"), SEEDS)
def test_the_output_is_right_whatever_goes_wrong(
    seed: int, broker: BrokerKind, services: Services, tmp_path: Path
) -> None:
    plan = draw(seed, broker)
    outcome = run(plan, services, tmp_path / "run")
    assert outcome.wrong == [], "\n".join([plan.describe(), *outcome.said, *outcome.wrong])


def test_a_seed_gives_the_same_plan_again() -> None:
    assert [draw(seed, "up") for seed in range(200)] == [draw(seed, "up") for seed in range(200)]


def test_a_seed_of_the_cluster_means_what_it_meant_before() -> None:
    """With this one, `push` is killed as it has claimed its job, and one of three brokers stays away."""
    plan = draw(3003, "cluster")
    assert (plan.stages, plan.block) == (("watch", "process", "sink"), 4096)
    assert [(upload.seed, upload.rows, upload.via) for upload in plan.uploads] == [(569949273, 300, "push")]
    assert [label(event) for event in plan.events] == [
        "kill -9 after taking on: the claim",
        "one of three brokers dies",
    ]
    assert plan.events[1] == NodeDies(1.2, 0)


@pytest.mark.parametrize(("broker", "other"), [("up", "NodeDies"), ("cluster", "BrokerDies")])
def test_every_fault_is_drawn_sooner_or_later(broker: BrokerKind, other: str) -> None:
    drawn = {type(event).__name__ for seed in range(300) for event in draw(seed, broker).events}
    assert drawn == {kind.__name__ for kind in get_args(Event)} - {other}


def test_a_plan_can_be_read() -> None:
    upload = Upload("a.csv", 1, 10, 0, 0, 0.5, "s3")
    plan = Plan(1, "up", 256, (upload,), ("watch",), (Kill("watch", 1.5, 2.0),))
    assert "Kill(target='watch', at=1.5, back=2.0)" in plan.describe()
    assert label(plan.events[0]) == "kill -9: watch"

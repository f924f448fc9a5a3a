"""A bounded part of the chaos suite; `make chaos` does more of it. `python -m tests.chaos --seed …` does a failed run again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.plan import BrokerKind, Kill, Plan, Upload, draw
from tests.chaos.results import label
from tests.chaos.run import Services, run

SEEDS: tuple[tuple[int, BrokerKind], ...] = ((3, "embedded"), (5, "embedded"), (3, "kafka"), (6, "kafka"))


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
    assert [draw(seed, "kafka") for seed in range(200)] == [draw(seed, "kafka") for seed in range(200)]


def test_every_fault_is_drawn_sooner_or_later() -> None:
    drawn = {type(event).__name__ for seed in range(300) for event in draw(seed, "kafka").events}
    assert len(drawn) == 11
    assert "TopicAnew" not in {
        type(event).__name__ for seed in range(300) for event in draw(seed, "embedded").events
    }


def test_a_plan_can_be_read() -> None:
    upload = Upload("a.csv", 1, 10, 0, 0, 0.5, "s3")
    plan = Plan(1, "kafka", 256, (upload,), ("watch",), (Kill("watch", 1.5, 2.0),))
    assert "Kill(target='watch', at=1.5, back=2.0)" in plan.describe()
    assert label(plan.events[0]) == "kill -9: watch"

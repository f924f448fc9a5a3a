"""How often a partition was begun at the same offset."""

from pipeline.attempts import DEATHS, SUSPECT_SECONDS, Attempts


def begin(metadata: str, now: float = 0.0) -> tuple[Attempts, str]:
    attempts = Attempts()
    return attempts, attempts.begin(0, 100, metadata, now)


def test_the_third_death_at_one_offset_makes_it_suspect() -> None:
    metadata = ""
    for _ in range(DEATHS):
        attempts, metadata = begin(metadata)
        assert not attempts.is_suspect(0, 0)
    attempts, metadata = begin(metadata)
    assert attempts.is_suspect(0, 0)
    assert not attempts.is_suspect(1, 0)


def test_a_commit_that_gets_on_clears_the_count() -> None:
    attempts, metadata = begin("begun 1")
    assert metadata == "begun 2"
    assert attempts.metadata(0, 0) == ""
    assert attempts.absolve([0]) == {}


def test_a_partition_stays_suspect_for_some_time_though_it_gets_on() -> None:
    """What kills may be in the second batch after the committed offset."""
    attempts, _ = begin("begun 3", now=50)
    assert attempts.metadata(0, 50 + SUSPECT_SECONDS - 1) == "begun 4"
    assert not attempts.is_suspect(0, 50 + SUSPECT_SECONDS)
    assert attempts.metadata(0, 50 + SUSPECT_SECONDS) == ""


def test_a_worker_that_leaves_in_good_health_takes_its_count_along() -> None:
    attempts, _ = begin("begun 2")
    assert attempts.absolve([0, 1]) == {0: 100}
    assert attempts.absolve([0]) == {}


def test_metadata_of_somebody_else_is_no_count() -> None:
    attempts, metadata = begin("begun many")
    assert metadata == "begun 1"
    assert not attempts.is_suspect(0, 0)


def test_beginning_twice_in_one_life_counts_once() -> None:
    """What was read under the assignment before is read again."""
    attempts, metadata = begin("begun 1")
    assert attempts.begin(0, 100, metadata, 0) == metadata == "begun 2"


def test_a_worker_that_loses_a_partition_and_gets_it_again_has_not_died() -> None:
    """A broker that stands still has every member out of its group, three times in a row: nothing is suspect of that."""
    attempts, metadata = begin("")
    for _ in range(DEATHS + 1):
        attempts.lose([0])
        metadata = attempts.begin(0, 100, metadata, 0)
    assert metadata == "begun 1"
    assert not attempts.is_suspect(0, 0)


def test_others_who_died_meanwhile_of_what_was_lost_count() -> None:
    attempts, _ = begin("")
    attempts.lose([0])
    assert attempts.begin(0, 100, f"begun {DEATHS}", 0) == f"begun {DEATHS + 1}"
    assert attempts.is_suspect(0, 0)


def test_what_is_suspect_stays_so_when_it_is_lost_and_comes_again() -> None:
    attempts, metadata = begin(f"begun {DEATHS}")
    attempts.lose([0])
    assert not attempts.is_suspect(0, 0)
    attempts.begin(0, 100, metadata, 0)
    assert attempts.is_suspect(0, 0)

"""A worker is only called stalled when the same run stays in its hand."""

from processor.standstill import Standstill


def test_an_idle_worker_is_ready_however_long_it_idles() -> None:
    watch = Standstill(exit_after=60, not_ready_after=30)
    assert watch.look({}, 0).ready
    assert watch.look({}, 1000).ready
    assert watch.look({0: 5}, 1001).ready


def test_a_run_that_stays_makes_the_worker_not_ready_and_then_exit() -> None:
    watch = Standstill(exit_after=60, not_ready_after=30)
    assert watch.look({0: 5, 1: 9}, 0).ready
    moved = watch.look({0: 5, 1: 20}, 31)
    assert (moved.ready, moved.must_exit, moved.place, moved.seconds) == (False, False, (0, 5), 31)
    assert watch.look({0: 5, 1: 30}, 60).must_exit


def test_moving_on_makes_it_ready_again() -> None:
    watch = Standstill(exit_after=60, not_ready_after=30)
    watch.look({0: 5}, 0)
    assert not watch.look({0: 5}, 40).ready
    assert watch.look({0: 6}, 41).ready
    assert watch.look({0: 6}, 70).ready


def test_a_partition_that_comes_back_starts_anew() -> None:
    watch = Standstill(exit_after=60, not_ready_after=30)
    watch.look({0: 5}, 0)
    watch.look({}, 10)
    assert watch.look({0: 5}, 50).ready

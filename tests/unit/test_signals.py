"""A stage hears that it is asked to end, whatever it is at just then."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BEFORE = """
import threading, time
from pipeline.leave import leave
from pipeline.signals import Ending
"""
SAY = "print('ready', flush=True)\n"


def asked(code: str, number: signal.Signals = signal.SIGTERM, times: int = 1) -> tuple[int, str]:
    """Run code in a process of its own; ask it to end once it says that it is ready; return its exit code, and what it says."""
    with subprocess.Popen(
        [sys.executable, "-c", BEFORE + code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            for _ in range(times):
                process.send_signal(number)
            said = process.communicate(timeout=20)[0]
        finally:
            process.kill()
    return process.returncode, said


NOTHING_ANSWERS = "AdminClient({'bootstrap.servers': '127.0.0.1:1', 'log_level': 0}).list_topics(timeout=60)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", ["time.sleep(60)", NOTHING_ANSWERS])
def test_who_has_begun_nothing_ends_at_once_also_in_a_call_of_a_library(
    busy: str, number: signal.Signals
) -> None:
    """A handler in Python would run when the library returns."""
    code = f"from confluent_kafka.admin import AdminClient\nwith Ending():\n    {SAY}    {busy}\n"
    assert asked(code, number) == (0, "")


def test_what_is_to_be_finished_is_finished() -> None:
    """Asked twice or not; the exit code is what the stage leaves with."""
    code = f"""
stop = threading.Event()
with Ending() as ending:
    ending.then(stop.set)
    {SAY}
    stop.wait()
    print("finished", flush=True)
    leave(3)
"""
    for times in (1, 2):
        assert asked(code, times=times) == (3, "finished\n")


def test_it_is_heard_where_an_event_loop_has_its_own_pipe_for_signals() -> None:
    """The reader's takes the place of whichever was there."""
    code = f"""
import asyncio, uvloop
stop = threading.Event()

async def until_stopped():
    {SAY}
    while not stop.is_set():
        await asyncio.sleep(0.01)

with Ending() as ending:
    ending.then(stop.set)
    uvloop.run(until_stopped())
    leave(3)
"""
    assert asked(code) == (3, "")


@pytest.mark.parametrize("busy", ["time.sleep(60)", NOTHING_ANSWERS])
def test_what_hangs_is_left_after_a_while(busy: str) -> None:
    """A broker that doesn't answer keeps nobody."""
    code = f"""
from confluent_kafka.admin import AdminClient
with Ending(patience=0.1) as ending:
    ending.then(lambda: None)
    {SAY}
    {busy}
"""
    status, said = asked(code)
    assert status == 0
    assert "left with work in hand" in said


def test_after_the_block_signals_are_what_they_were_before() -> None:
    code = f"with Ending():\n    pass\n{SAY}time.sleep(60)\n"
    assert asked(code) == (-signal.SIGTERM, "")

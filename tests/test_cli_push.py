"""`millstream push`: what it says of results, of rejects, and of what was computed before."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.jobs import Job, Receipt
from pipeline.store import ObjectStore
from producer.stage import Stage
from producer.wait import wait_for_end
from tests.cli import CALCULATION, run, shell_words
from tests.files import Files
from tests.unit.capture_doubles import Recorder

HEADER = "order_id,quantity,price,_row,_error\n"
SHORT = [f'{n},,,{n},"line {n + 2}: expected 3 fields, found 2: {n},4"' for n in range(100)]
WORDS = [f"{n},w{n},1,{n},quantity: 'w{n}' is not BIGINT" for n in range(100, 103)]


class Sender(Recorder):
    """A sender that the broker answers at once."""

    def pending(self) -> int:
        return 0


@dataclass
class Services:
    """Two buckets; whatever is waited for is published with these results and rejects."""

    files: Files = field(default_factory=Files)
    results: int = 1
    rejects: list[str] = field(default_factory=list)

    def publish(self, results: ObjectStore, job: Job) -> Receipt | None:
        output = "order_id,total\n" + "1,2\n" * self.results
        rejects = "\n".join([HEADER.strip(), *self.rejects, ""]) if self.rejects else None
        self.files.publish(job, output.encode(), rejects.encode() if rejects else None)
        return wait_for_end(results, job)


@pytest.fixture
def services(orders: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """What push works with, in memory."""
    services = Services()
    files = services.files

    def stage(settings: Any, command: str) -> Stage:
        return Stage(settings, files.uploads, files.results, partitions=3)

    monkeypatch.setattr("producer.push.open_stage", stage)
    monkeypatch.setattr("producer.push.Publisher", lambda *_: Sender())
    monkeypatch.setattr("producer.push.wait_for_end", services.publish)
    monkeypatch.setattr("millstream.stores.stores", lambda _: files)
    return services


@pytest.mark.parametrize("changed", ["formula", "dialect", "flag"])
def test_the_same_content_with_another_calculation_is_not_done(
    changed: str, services: Services, orders: Path
) -> None:
    """It ends with exit code 1, and the command that it shows computes it anew."""
    assert run("push", "orders.csv", "--wait").exit_code == 0
    flags: list[str] = []
    toml = orders / "millstream.toml"
    if changed == "formula":
        toml.write_text(CALCULATION.replace("quantity * price", "quantity + price"))
    elif changed == "dialect":
        toml.write_text(CALCULATION + 'dialect = { encoding = "cp1252" }\n')
    else:
        flags = ["--encoding", "cp1252"]
    for wait in ([], ["--wait"]):
        done = run("push", "orders.csv", *wait, *flags)
        assert done.exit_code == 1
        assert "already done" not in done.stderr
        said = (
            "by another calculation than [calculations.orders] is today" if changed == "formula" else "cp1252"
        )
        assert said in done.stderr
    command = re.search(r"; to compute it anew:  (millstream push .*)", done.stderr)
    assert command is not None
    assert run(*shell_words(command[1])[1:]).exit_code == 0
    done = run("push", "orders.csv", *flags)
    assert done.exit_code == 0, done.stderr
    assert "already done (generation 2)" in done.stderr


def test_a_job_on_its_way_with_another_calculation_is_said_to_be_so(services: Services, orders: Path) -> None:
    assert run("push", "orders.csv").exit_code == 0
    (orders / "millstream.toml").write_text(CALCULATION.replace("quantity * price", "quantity + price"))
    done = run("push", "orders.csv", "--wait")
    assert done.exit_code == 1
    assert "which is on its way already, is computed by another calculation" in done.stderr


def test_the_command_that_computes_anew_has_name_and_flags(services: Services, orders: Path) -> None:
    (orders / "-my file.csv").write_text("order_id;quantity;price\n1;2;3\n")
    arguments = ["--name", "a b.csv", "--delimiter", "semicolon", "--quote", "none", "--", "-my file.csv"]
    assert run("push", "--wait", *arguments).exit_code == 0
    done = run("push", *arguments)
    command = re.search(r"; to compute it anew:  (millstream push .*)", done.stderr)
    assert command is not None
    assert shell_words(command[1])[1:] == [
        "push",
        "--again",
        "--name=a b.csv",
        "--delimiter=;",
        "--quote=",
        "--",
        "-my file.csv",
    ]
    assert run(*shell_words(command[1])[1:]).exit_code == 0


def test_the_result_s_addresses_and_the_command_that_fetches_it_are_shown(services: Services) -> None:
    services.rejects = WORDS
    done = run(
        "--set",
        "http.host=0.0.0.0",
        "--set",
        "http.port=81",
        "push",
        "orders.csv",
        "--wait",
        "--name",
        "a/b c.csv",
    )
    assert done.exit_code == 0, done.stderr
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert "a/b c.csv: published, 1 row and 3 rejects" in lines
    assert "result   http://127.0.0.1:81/results/a/b%20c.csv" in lines
    assert "rejects  http://127.0.0.1:81/rejects/a/b%20c.csv" in lines
    command = next(line for line in lines if line.startswith("fetch")).partition("  ")[2]
    fetched = run(*shell_words(command)[1:])
    assert fetched.exit_code == 0, fetched.stderr
    assert Path("b c.results.csv").read_text() == "order_id,total\n1,2\n"


def test_rejects_have_no_address_where_there_are_none_nor_has_anything_where_the_port_is_any(
    services: Services,
) -> None:
    assert "/rejects/" not in run("push", "orders.csv", "--wait").stderr
    assert "http://" not in run("--set", "http.port=0", "push", "orders.csv", "--wait").stderr


def test_reasons_are_listed_by_kind_the_largest_first(services: Services) -> None:
    """A hundred short lines are one reason a hundred times."""
    services.rejects = [*WORDS, *SHORT]
    expected = [
        "    100 ×  row 0: line 2: expected 3 fields, found 2: 0,4",
        "      3 ×  row 100: quantity: 'w100' is not BIGINT",
    ]
    lines = run("push", "orders.csv", "--wait").stderr.splitlines()
    assert lines[lines.index(expected[0]) :][:2] == expected
    assert run("status", "orders.csv").stdout.splitlines()[1:] == expected


def test_of_many_kinds_the_largest_are_listed_and_of_many_rejects_the_first(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.rejects = [f'{n},,,{n},kind {"abcdefg"[n % 7]} ""x' for n in range(70)]
    lines = run("push", "orders.csv", "--wait").stderr.splitlines()
    assert sum("10 ×" in line for line in lines) == 5
    assert "    and 2 further reasons" in lines
    monkeypatch.setattr("pipeline.reject_list.HEAD", 400)
    assert re.search(r"\(of the first \d\d rejects\)", run("status", "orders.csv").stdout)


def test_a_result_without_a_single_row_is_warned_of(services: Services) -> None:
    services.results, services.rejects = 0, SHORT
    done = run("push", "orders.csv", "--wait")
    assert done.exit_code == 0
    assert "orders.csv: WARNING: published without a single result: all 100 rows were rejected" in done.stderr
    assert "published, 0 rows" not in done.stderr


@pytest.mark.parametrize(
    ("most", "code"), [("3", 0), ("2", 1), ("0", 1), ("2.9%", 1), ("3%", 0), ("100%", 0), (" 3 % ", 0)]
)
def test_more_rejects_than_may_be_are_exit_code_1(most: str, code: int, services: Services) -> None:
    services.results, services.rejects = 97, WORDS
    for _ in range(2):  # the second time it is there already
        done = run("push", "orders.csv", "--wait", "--max-rejects", most)
        assert done.exit_code == code, done.stderr
        said = "orders.csv: 3 of 100 rows were rejected, more than --max-rejects"
        assert (said in done.stderr) == bool(code)


@pytest.mark.parametrize("most", ["", "x", "-1", "101%", "1.5", "%", "1e3"])
def test_what_is_no_number_of_rejects_is_refused(most: str, services: Services) -> None:
    done = run("push", "orders.csv", "--wait", f"--max-rejects={most}")
    assert done.exit_code == 2
    assert "as in 10 or 0.5%" in done.stderr
    assert list(services.files.uploads.list()) == []


def test_max_rejects_wants_wait(services: Services) -> None:
    done = run("push", "orders.csv", "--max-rejects", "1")
    assert done.exit_code == 2
    assert "add --wait" in done.stderr


def test_all_files_of_a_push_are_dealt_with_whatever_is_wrong_with_one(
    services: Services, orders: Path
) -> None:
    (orders / "more.csv").write_text("order_id,quantity,price\n1,2,3\n")
    services.rejects = WORDS
    done = run("push", "orders.csv", "more.csv", "--wait", "--max-rejects", "1")
    assert done.exit_code == 1
    for name in ("orders.csv", "more.csv"):
        assert f"{name}: 3 of 4 rows were rejected" in done.stderr


def test_of_many_files_it_is_said_once_where_the_results_are(services: Services, orders: Path) -> None:
    names = [f"{number}.csv" for number in range(11)]
    for name in names:
        (orders / name).write_text("order_id,quantity,price\n1,2,3\n")
    done = run("push", *names, "--wait")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("http://") == 1
    assert done.stderr.splitlines()[-1].startswith(
        "results: http://127.0.0.1:8080/results/NAME, or  millstream get"
    )


def test_try_counts_reasons_by_kind(orders: Path) -> None:
    rows = [f"{n},{n}" for n in range(100)]
    (orders / "orders.csv").write_text("\n".join(["order_id,quantity,price", *rows]))
    done = run("try", "orders.csv")
    assert done.stdout.splitlines()[-2:] == [
        "of the first 100 rows, 100 would be rejected",
        "    100 ×  row 0: line 2: expected 3 fields, found 2",
    ]

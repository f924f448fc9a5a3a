"""The command line: messages, exit codes, and what needs no services."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from millstream import cli
from millstream.progress import Lines
from tests.cli import CALCULATION, ORDERS, run
from tests.files import Files


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "millstream", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {
        "boto3",
        "confluent_kafka",
        "duckdb",
        "faust",
        "fastapi",
        "pyarrow",
        "pydantic",
        "rich",
        "numpy",
    }
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_commands_help_has_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"Example:  millstream {command}" in done.stdout


def test_the_version_is_said() -> None:
    assert run("--version").stdout.startswith("millstream ")


@pytest.mark.parametrize(
    ("file", "content", "calculation", "message"),
    [
        ("nothere.csv", None, CALCULATION, "nothere.csv: there is no such file"),
        ("folder.csv", "folder", CALCULATION, "folder.csv is a folder"),
        ("empty.csv", b"", CALCULATION, "empty"),
        ("binary.csv", bytes(range(256)) * 100, CALCULATION, "binary.csv"),
        ("orders.txt", ORDERS.encode(), CALCULATION, "no calculation matches 'orders.txt'"),
        ("orders.csv", ORDERS.encode(), "", "millstream init FILE"),
        ("twice.csv", b"order_id,a,A\n1,2,3\n", CALCULATION, "rename"),
        ("other.csv", b"a,b\n1,2\n", CALCULATION, 'no column "order_id"'),
        ("orders.csv", ORDERS.encode(), CALCULATION.replace('"quantity *', '"quantty *'), "quantity"),
        ("orders.csv", ORDERS.encode(), CALCULATION.replace('"quantity *', '"quantity * *'), "total"),
        ("orders.csv.gz", b"not gzip at all", CALCULATION, "orders.csv.gz"),
    ],
)
def test_bad_input_has_a_clear_message_and_exit_code_1(
    file: str, content: bytes | str | None, calculation: str, message: str, folder: Path
) -> None:
    (folder / "millstream.toml").write_text(calculation)
    if content == "folder":
        (folder / file).mkdir()
    elif isinstance(content, bytes):
        (folder / file).write_bytes(content)
    done = run("push", file)
    assert done.exit_code == 1, done.stderr
    assert done.stderr.startswith("millstream: ")
    assert message in done.stderr


@pytest.mark.parametrize("command", ["push", "try"])
@pytest.mark.parametrize(
    ("file", "message"), [("no.txt", "there is no such file"), ("dir.txt", "is a folder")]
)
def test_a_file_that_is_none_is_said_so_before_a_calculation_is_missed(
    command: str, file: str, message: str, orders: Path
) -> None:
    (orders / "dir.txt").mkdir()
    done = run(command, file)
    assert done.exit_code == 1
    assert message in done.stderr


def test_one_bad_file_of_several_keeps_all_from_being_uploaded_and_that_is_said(orders: Path) -> None:
    done = run("push", "orders.csv", "no.csv")
    assert done.exit_code == 1
    assert "no.csv: there is no such file" in done.stderr
    assert "nothing was uploaded" in done.stderr


@pytest.mark.parametrize(
    "name", ["../orders.csv", "/orders.csv", "_millstream/orders.csv", "a//b.csv", "a/./b.csv", ""]
)
def test_a_name_that_cant_be_is_refused(name: str, orders: Path) -> None:
    done = run("push", "orders.csv", "--name", name)
    assert done.exit_code == 2
    assert done.stderr.startswith("millstream: ")
    assert "name" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "kafak=x:1", "push", "orders.csv"], "did you mean kafka?"),
        (["--set", "partitions=0", "push", "orders.csv"], "partitions = '0'"),
        (["--set", "kafka", "push", "orders.csv"], "NAME=VALUE"),
        (["push", "orders.csv", "--delimiter", "ab"], "--delimiter"),
        (["push", "orders.csv", "orders.csv", "--name", "a.csv"], "--name a.csv"),
        (["push", "orders.csv", "orders.csv"], "several files of one name"),
        (["push"], "Missing argument"),
        (["psuh"], "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], message: str, orders: Path) -> None:
    done = run(*arguments)
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr


def test_a_misspelt_setting_is_found_in_the_file(orders: Path) -> None:
    (orders / "millstream.toml").write_text("partitons = 3\n" + CALCULATION)
    done = run("push", "orders.csv")
    assert done.exit_code == 2
    assert "did you mean partitions?" in done.stderr


def test_s3_that_doesnt_answer_is_named_within_ten_seconds(orders: Path) -> None:
    started = time.monotonic()
    done = run(
        *("--set", "s3.endpoint=http://127.0.0.1:1", "--set", "s3.access_key=a", "--set", "s3.secret_key=b"),
        *("push", "orders.csv"),
    )
    assert done.exit_code == 1
    assert "S3 at http://127.0.0.1:1 does not answer" in done.stderr
    assert time.monotonic() - started < 12


@pytest.mark.parametrize(("level", "shown"), [("info", ["bad"]), ("debug", ["news", "bad"]), ("error", [])])
def test_commands_show_warnings_alone_unless_told_otherwise(
    level: str, shown: list[str], folder: Path
) -> None:
    program = (
        "import structlog; from millstream import options; options.remember(['log_level=' + %r]);"
        "options.quiet_settings(); log = structlog.get_logger(); log.info('news'); log.warning('bad')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program % level],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.stdout == ""
    assert [
        word for line in done.stderr.splitlines() for word in line.split() if word in {"news", "bad"}
    ] == shown


def test_ctrl_c_is_exit_code_130_and_says_what_was_kept(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        stop = KeyboardInterrupt()
        stop.add_note("orders.csv is uploaded")
        raise stop

    with pytest.raises(SystemExit) as exit_:
        cli._presented("push", command)()
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "millstream: interrupted\norders.csv is uploaded\n"


def test_preview_needs_neither_services_nor_settings(folder: Path) -> None:
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "millstream.toml").write_text("this is no TOML")
    done = run("preview", "orders.csv")
    assert done.exit_code == 0, done.stderr
    zeros = "0" * 32
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"key": f"{zeros}:0", "value": {"order_id": "007", "quantity": "3", "price": "9.99"}},
        {"key": f"{zeros}:1", "value": {"order_id": "008", "quantity": "x", "price": "1"}},
        {"key": f"{zeros}:3", "value": {"order_id": "010", "quantity": "5", "price": "2.50"}},
        {
            "key": f"{zeros}:2:rejected",
            "value": {"error": "expected 3 fields, found 2", "line": 4, "text": "009,4"},
        },
        {"key": f"{zeros}:end", "value": {"rows": 4, "round": 0}},
    ]
    assert "comma-separated" in done.stderr


def test_preview_reads_as_it_is_told(folder: Path) -> None:
    (folder / "a.csv").write_text("a b\n1|2\n")
    done = run("preview", "a.csv", "--delimiter", "pipe", "--quote", "none", "--skip", "0")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["value"]["error"] == "expected 1 fields, found 2"


def test_try_shows_results_and_rejects_side_by_side(orders: Path) -> None:
    done = run("try", "orders.csv")
    assert done.exit_code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["0", "007", "29.97"] in lines
    assert ["3", "010", "12.50"] in lines
    assert "1    008              quantity: 'x' is not BIGINT" in done.stdout
    assert "line 4: expected 3 fields, found 2" in done.stdout
    assert "4 rows = 2 results + 2 rejected" in done.stdout


def test_try_says_how_many_of_the_first_thousand_rows_would_be_rejected(orders: Path) -> None:
    rows = [f"{n},{'x' if n in {500, 900, 1100} else n},1.00" for n in range(1200)]
    (orders / "orders.csv").write_text("\n".join(["order_id,quantity,price", *rows]))
    done = run("try", "orders.csv", "-n", "1")
    assert done.stdout.splitlines()[-3:] == [
        "1 row = 1 result + 0 rejected",
        "of the first 1,000 rows, 2 would be rejected",
        "    2 ×  row 500: quantity: 'x' is not BIGINT",
    ]


def test_the_dialect_is_as_configured_unless_flags_say_otherwise(folder: Path) -> None:
    (folder / "millstream.toml").write_text(
        CALCULATION + 'dialect = { delimiter = ";", encoding = "cp1252" }\n'
    )
    (folder / "orders.csv").write_bytes("order_id;quantity;price;näme,x\n1;2;3.00;é,y\n".encode("cp1252"))
    done = run("try", "orders.csv")
    assert done.exit_code == 0, done.stderr
    assert "semicolon-separated" in done.stdout
    assert "cp1252" in done.stdout
    assert "6.00" in done.stdout
    assert run("try", "orders.csv", "--delimiter", "comma").exit_code == 1


@pytest.mark.parametrize(
    "text",
    [
        ORDERS,
        "a\n1\n2\n",
        "only,header\n",
        'id,"odd ""name""",select,é\nx,1,2.5,NA\ny,NA,3.25,2026-01-01\n',
        "id,when,at,flag,big,zip\n1,2026-01-01,2026-01-01 10:00:00,true,123456789012345678901234567890,01234\n",
    ],
)
def test_what_init_writes_works_as_it_is(text: str, folder: Path) -> None:
    (folder / "my [1] file.csv").write_text(text)
    done = run("init", "my [1] file.csv")
    assert done.exit_code == 0, done.stderr
    tried = run("try", "my [1] file.csv")
    assert tried.exit_code == 0, tried.stderr
    assert "rejected because" in tried.stdout or "no rows" in tried.stdout


def test_init_guesses_types_and_the_texts_for_missing_values(folder: Path) -> None:
    (folder / "f.csv").write_text(
        "name,key,n,price,ratio,day,zip\nx,k1,1,1.50,1e3,2026-01-01,01\nx,k2,NA,22.75,0.5,2026-01-02,02\n"
    )
    assert run("init", "f.csv").exit_code == 0
    written = (folder / "millstream.toml").read_text()
    assert 'id = "key"' in written
    assert 'nulls = ["", "NA"]' in written
    typed = [line for line in written.splitlines() if line.endswith('"') and not line.startswith("#")]
    assert typed == [
        'n = "BIGINT"',
        'price = "DECIMAL(18,2)"',
        'ratio = "DOUBLE"',
        'day = "DATE"',
        'doubled = "n * 2"',
    ]
    assert '# zip = "VARCHAR"' in written


def test_init_adds_to_a_file_that_is_there_and_never_twice(orders: Path) -> None:
    assert run("init", "orders.csv").exit_code == 2
    (orders / "millstream.toml").write_text(CALCULATION.replace('"*.csv"', '"other.csv"'))
    assert run("init", "orders.csv").exit_code == 0
    written = (orders / "millstream.toml").read_text()
    assert "[calculations.orders]" in written
    assert "[calculations.orders_2]" in written


def test_plain_progress_is_a_line_every_few_seconds() -> None:
    class Stream:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

    now = 0.0
    stream = Stream()
    lines = Lines(stream, every=5, now=lambda: now)  # type: ignore[arg-type]
    for second in range(12):
        now = float(second)
        lines.captured("a.csv", second * 1000, second / 20)
    for second in range(12, 18):
        now = float(second)
        lines.waits("a.csv", "the sink is 512 MB behind on topic millstream.results")
    assert stream.text.splitlines() == [
        "a.csv: 5,000 rows captured (25%), 1,000 rows/s",
        "a.csv: 10,000 rows captured (50%), 1,000 rows/s",
        "a.csv: waits: the sink is 512 MB behind on topic millstream.results",
    ]


def test_cancel_ends_a_running_job_and_says_where_there_is_nothing_to_cancel(
    orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files()
    monkeypatch.setattr("millstream.stores.stores", lambda _: files)
    files.published()
    done = run("cancel", "orders.csv")
    assert done.exit_code == 1
    assert "orders.csv was published already" in done.stderr
    files.upload(content=b"order_id,quantity,price\n008,1,1.00\n")
    files.take_on(generation=2)
    for _ in range(2):
        done = run("cancel", "orders.csv")
        assert (done.exit_code, done.stdout) == (0, "orders.csv  cancelled\n")
    assert "cancelled: cancelled by millstream cancel" in run("status", "orders.csv").stdout
    assert run("get", "orders.csv").stdout == "order_id,total\n007,29.97\n"


def test_delete_takes_everything_back(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files()
    monkeypatch.setattr("millstream.stores.stores", lambda _: files)
    files.published()
    assert run("delete", "orders.csv").stdout == "orders.csv  deleted\n"
    done = run("get", "orders.csv")
    assert done.exit_code == 1
    assert "orders.csv has no result: it was deleted" in done.stderr
    done = run("delete", "other.csv")
    assert done.exit_code == 1
    assert "other.csv: there is no upload and no result of that name" in done.stderr

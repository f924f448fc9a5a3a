"""The demo is right, tells right from wrong, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream import demo
from pipeline.errors import Permanent

TEXT = (demo.SAMPLE / demo.NAME).read_text(encoding="utf-8")
RESULT = "order_id,total\n001,29.97\n002,1200.00\n003,9.00\n005,\n007,98.00\n"
REJECTS = 'order_id,customer,quantity,price,_row,_error\n004,Leonhard Euler,2,"9,99",3,why\n,,,,5,why\n'
RECEIPT = {"rows": 7, "results": 5, "rejected": 2}


def test_the_demo_shows_input_result_reject_and_receipt_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "millstream", "demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in (
        '"Grace Hopper, USN",1,1200.00',
        "002,1200.00",
        "'9,99' is not DECIMAL(18,2)",
        '"rejected": 2',
    ):
        assert shown in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_sample_has_one_price_that_is_no_number_and_one_ragged_row() -> None:
    assert demo.expected(TEXT) == (RESULT, [3, 5])


def test_the_right_result_passes() -> None:
    demo.check(TEXT, RESULT, REJECTS, RECEIPT)


@pytest.mark.parametrize(
    ("result", "rejects", "receipt", "message"),
    [
        (RESULT.replace("29.97", "29.98"), REJECTS, RECEIPT, r"-001,29\.97\n\+001,29\.98"),
        (
            RESULT,
            REJECTS.replace(",3,why", ",4,why"),
            RECEIPT,
            r"rows \[3, 5\] were to be rejected, and rows \[4, 5\]",
        ),
        (RESULT, REJECTS, RECEIPT | {"rows": 8}, "the receipt says .* 7 rows went in"),
    ],
)
def test_what_is_wrong_is_shown(result: str, rejects: str, receipt: dict[str, int], message: str) -> None:
    with pytest.raises(Permanent, match=message):
        demo.check(TEXT, result, rejects, receipt)

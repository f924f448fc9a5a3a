"""Makes the pictures of README: `python docs/screenshots.py`, some two minutes, with Debian's Chromium.

It starts `millstream up` in a temporary folder, pushes made-up orders, and takes what a person would see: the page while files
are on their way, a file's page, and `millstream top`.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from io import StringIO
from pathlib import Path

import httpx
from playwright.sync_api import expect, sync_playwright
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
CUSTOMERS = ("Ada", "Barbara", "Edsger", "Grace", "Niklaus")
CONFIGURATION = """
[calculations.orders]
match = "orders*.csv"
id = "order_id"
columns = { quantity = "BIGINT", price = "DECIMAL(18,2)" }
outputs = { total = "quantity * price", weekday = "dayname(ordered::DATE)" }
"""


def orders(path: Path, rows: int, bad: float = 0.003) -> None:
    """Write a file of orders, some with prices that nobody can read."""
    chance = random.Random(path.name)
    with path.open("w") as file:
        file.write("order_id,ordered,customer,quantity,price\n")
        for row in range(rows):
            price = (
                chance.choice(("n/a", "12.5o", "9.9.9"))
                if chance.random() < bad
                else f"{chance.random() * 90:.2f}"
            )
            day = f"2026-{1 + row % 12:02}-{1 + row % 28:02}"
            file.write(f"A{row:07},{day},{chance.choice(CUSTOMERS)},{chance.randint(1, 12)},{price}\n")


def main() -> None:
    """Make page.png, file.png and top.svg beside this script."""
    chromium = shutil.which("chromium") or sys.exit("no chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "millstream.toml").write_text(CONFIGURATION)
        environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
        millstream = [sys.executable, "-m", "millstream"]
        up = subprocess.Popen([*millstream, "up", "--port", "0"], cwd=folder, env=environment)
        try:
            http = _ready(folder)
            for month, rows in (("01", 48_211), ("02", 61_304), ("03", 7)):
                file = folder / f"orders-2026-{month}.csv"
                orders(file, rows, bad=0.0 if rows < 10 else 0.003)
                subprocess.run(
                    [*millstream, "push", file.name, "--wait"], cwd=folder, env=environment, check=True
                )
            (folder / "orders-broken.csv").write_text("order_id,amount\n1,2\n")
            httpx.put(
                f"{http}/uploads/orders-broken.csv", content=(folder / "orders-broken.csv").read_bytes()
            )
            orders(folder / "orders-2026-04.csv", 400_000)
            _take(chromium, http, folder, environment)
        finally:
            up.terminate()
            up.wait(20)


def _ready(folder: Path) -> str:
    """Wait until everything has begun to work; return the reader's address."""
    while (
        not (log := folder / ".millstream" / "up.log").exists() or "ready: drop a file" not in log.read_text()
    ):
        time.sleep(0.2)
    return str(json.loads((folder / ".millstream" / "up.json").read_text())["http"])


def _take(chromium: str, http: str, folder: Path, environment: dict[str, str]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1120, "height": 780}, device_scale_factor=1.5)
        page.set_default_timeout(300_000)
        page.goto(http)
        page.set_input_files("#pick", folder / "orders-2026-04.csv")
        expect(page.locator("[data-stage=store] [data-rate]")).to_have_text(
            re.compile(r"\d"), timeout=300_000
        )
        page.screenshot(path=HERE / "page.png")
        _top(folder, environment)
        page.goto(f"{http}/files/orders-2026-04.csv")
        page.wait_for_selector("#file[data-state=published]")
        page.screenshot(path=HERE / "file.png")
        browser.close()


def _top(folder: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "millstream", "top", "--once"]
    environment = environment | {"FORCE_COLOR": "1", "COLUMNS": "150"}
    shown = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout
    console = Console(record=True, width=150, file=StringIO())
    console.print(Text.from_ansi(shown))
    console.save_svg(str(HERE / "top.svg"), title="millstream top")


if __name__ == "__main__":
    main()

"""The page in a real browser, on a real chain."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.stack import Stack, stack
from tests.services.browser import chromium
from tests.services.kafka import Broker
from tests.services.s3 import S3

SLOW = 120_000
"""Milliseconds that the chain may take on a busy machine."""

CONFIGURATION = """
[calculations.orders]
match = "orders*.csv"
id = "order_id"
columns = { quantity = "BIGINT", price = "DECIMAL(18,2)" }
outputs = { total = "quantity * price" }
"""
expect.set_options(timeout=SLOW)
AXE = (Path(__file__).parent / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(name="chain")
def running(tmp_path: Path, broker: Broker, s3: S3, topic_prefix: str) -> Iterator[Stack]:
    (tmp_path / "millstream.toml").write_text(CONFIGURATION)
    with stack(tmp_path, broker, s3, topic_prefix, "watch", "process", "sink", "serve") as found:
        found.logged("serve", "serving")
        yield found


@contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page in a browser of its own; whatever it complains of on its console fails the test."""
    context = browser.new_context(**options)
    complaints: list[str] = []
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
        refused = [text for text in complaints if "status of 422" in text or "ERR_" in text]
        assert [text for text in complaints if text not in refused] == []
    finally:
        context.close()


def accessible(page: Page, what: str) -> None:
    """Have axe-core look at the page as it is."""
    page.evaluate(AXE + "; void 0")
    found = page.evaluate("axe.run(document)")
    wrong = [f"{item['id']}: {item['nodes'][0]['html']}" for item in found["violations"]]
    assert wrong == [], what


def orders(path: Path, rows: int) -> Path:
    """Write a file of which every hundredth row is bad."""
    prices = (f"{row % 50}.25" if row % 100 != 99 else '"9,99"' for row in range(rows))
    lines = (f"{row:06},{row % 9},{price}\n" for row, price in enumerate(prices))
    path.write_text("order_id,quantity,price\n" + "".join(lines))
    return path


def oracle(path: Path) -> bytes:
    target = path.with_suffix(".oracle")
    duckdb.sql(
        f"COPY (SELECT order_id, CAST(quantity AS BIGINT) * CAST(price AS DECIMAL(18,2)) AS total "
        f"FROM read_csv('{path}', all_varchar=true, delim=',', quote='\"', header=true) "
        "WHERE TRY_CAST(price AS DECIMAL(18,2)) IS NOT NULL) "
        f"TO '{target}' (FORMAT csv, HEADER)"
    )
    return target.read_bytes()


def test_a_file_is_dropped_moves_and_is_downloaded(browser: Browser, chain: Stack, tmp_path: Path) -> None:
    """In two tabs, of which one only looks; and each state is accessible, light and dark."""
    file = orders(tmp_path / "orders.csv", 30_000)
    with tab(browser) as page, tab(browser, color_scheme="dark") as other:
        for each in (page, other):
            each.goto(chain.http)
            expect(each.locator("#live")).to_have_attribute("data-live", "on")
            expect(each.get_by_text("No files yet")).to_be_visible()
        accessible(page, "empty, light")
        accessible(other, "empty, dark")
        page.set_input_files("#pick", file)
        expect(page.locator(".uploads").get_by_text("uploaded")).to_be_visible()
        for each in (page, other):
            expect(each.locator("tr[data-name='orders.csv']")).to_be_visible()
            expect(each.locator("tr[data-name='orders.csv'] .chip.good")).to_be_visible()
        accessible(page, "list, light")
        accessible(other, "list, dark")
        with page.expect_download() as download:
            page.get_by_label("Download the result of orders.csv").click()
        assert Path(download.value.path()).read_bytes() == oracle(file)
        for each, colours in ((page, "light"), (other, "dark")):
            each.locator("tr[data-name='orders.csv'] th a").click()
            expect(each.locator("#file[data-state=published]")).to_be_visible()
            expect(each.locator(".sum")).to_contain_text("30,000 rows in = 29,700 results + 300 rejected")
            expect(each.locator(".reasons li")).to_have_count(1)
            expect(each.locator(".reasons")).to_contain_text("price: '…' is not DECIMAL(18,2)")
            accessible(each, f"file, {colours}")


def test_a_bad_file_shows_its_reason_and_what_to_do(browser: Browser, chain: Stack, tmp_path: Path) -> None:
    (tmp_path / "orders-bad.csv").write_text("order_id,amount\n1,2\n")
    (tmp_path / "unknown.csv").write_text("a\n1\n")
    with tab(browser, color_scheme="dark", viewport={"width": 390, "height": 800}) as page:
        page.goto(chain.http)
        page.set_input_files("#pick", [tmp_path / "orders-bad.csv", tmp_path / "unknown.csv"])
        expect(page.locator(".uploads .bad")).to_contain_text("no calculation matches 'unknown.csv'")
        expect(page.locator("tr[data-name='orders-bad.csv'] .chip.bad")).to_be_visible()
        accessible(page, "refused, on a phone")
        page.locator("tr[data-name='orders-bad.csv'] th a").click()
        expect(page.get_by_role("alert")).to_contain_text("quantity")
        expect(page.get_by_role("alert")).to_contain_text("tried again by itself")
        accessible(page, "file refused, on a phone")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_reader_that_is_restarted_in_mid_job_is_picked_up_again(
    browser: Browser, chain: Stack, tmp_path: Path
) -> None:
    file = orders(tmp_path / "orders.csv", 5_000)
    chain.logged("process", "partitions assigned")
    chain.pause("process")  # so that the job is under way for as long as the test wants
    with tab(browser) as page, tab(browser) as other:
        other.goto(chain.http)
        page.goto(chain.http)
        page.set_input_files("#pick", file)
        expect(page.locator("tr[data-name='orders.csv'] .chip")).to_have_text("computing")
        page.locator("tr[data-name='orders.csv'] th a").click()
        expect(page.locator("#waits")).to_be_attached()
        chain.kill("process")  # the page says so without being opened again
        expect(page.locator("#waits")).to_contain_text("millstream process")
        accessible(page, "waiting")
        assert chain.stop("serve") == 0
        expect(page.locator("#live")).to_have_attribute("data-live", "lost")
        expect(other.locator("#live")).to_have_attribute("data-live", "lost")
        expect(other.locator(".service.unknown").first).to_be_visible()
        expect(other.locator(".service:not(.unknown)")).to_have_count(0)
        accessible(other, "lost")
        chain.start("serve")
        expect(page.locator("#live")).to_have_attribute("data-live", "on")
        expect(other.locator(".service:not(.unknown)").first).to_be_visible()
        expect(other.locator(".service.unknown")).to_have_count(0)
        settings = chain.folder / "millstream.toml"
        settings.write_text(CONFIGURATION + "[calculations.orders\n")
        for each in (page, other):
            expect(each.locator("#trouble")).to_contain_text("not valid TOML")
            accessible(each, "settings that can't be used")
        settings.write_text(CONFIGURATION)
        for each in (page, other):
            expect(each.locator("#trouble")).to_be_hidden()
        chain.start("process")
        expect(page.locator("#file[data-state=published]")).to_be_visible()
    assert chain.get("/results/orders.csv").content == oracle(file)


def test_a_calculation_is_tried_in_the_browser(browser: Browser, chain: Stack, tmp_path: Path) -> None:
    file = orders(tmp_path / "sales.csv", 20_000)
    with tab(browser) as page:
        page.goto(f"{chain.http}/try")
        page.set_input_files("#try-file", file)
        expect(page.locator("#try-rows tbody tr")).to_have_count(20)
        text = page.locator("#try-toml").input_value()
        assert "[calculations." in text
        head, table, _ = text.partition("[calculations.mine.outputs]")
        page.locator("#try-toml").fill(f'{head}{table}\nnine = "quantity * 9"\n')
        expect(page.locator("#try-rows thead")).to_contain_text("nine")
        expect(page.locator("#try-rows tbody tr").nth(3).locator("td.out")).to_have_text("27")
        page.locator("#try-toml").fill(CONFIGURATION.replace("orders*", "sales*"))
        expect(page.locator("#try-reasons li")).to_have_count(1)
        expect(page.locator("#try-reasons")).to_contain_text("price: '…' is not DECIMAL(18,2)")
        accessible(page, "try")
        page.locator("#try-toml").fill(text.replace("quantity * 2", "read_text('/etc/passwd')"))
        expect(page.locator("#try-error")).to_contain_text("read_text")


def test_without_a_script_it_lists_and_downloads(browser: Browser, chain: Stack, tmp_path: Path) -> None:
    file = orders(tmp_path / "orders.csv", 300)
    with tab(browser, java_script_enabled=False) as page:
        assert chain.get("/results").status_code == 200
        import httpx

        assert httpx.put(f"{chain.http}/uploads/orders.csv", content=file.read_bytes()).status_code == 201
        assert chain.get("/results/orders.csv", wait="100").status_code == 200
        page.goto(chain.http)
        with page.expect_download() as download:
            page.get_by_label("Download the result of orders.csv").click()
        assert Path(download.value.path()).read_bytes() == oracle(file)
        page.goto(f"{chain.http}/?q=order&sort=name")
        page.locator("tr[data-name='orders.csv'] th a").click()
        expect(page.locator(".sum")).to_contain_text("300 rows in")


def test_top_and_status_say_the_same(chain: Stack, tmp_path: Path) -> None:
    """For scripts, and for people; the browser isn't needed for this, the chain is."""
    import subprocess
    import sys

    import httpx

    def millstream(*arguments: str) -> str:
        command = [sys.executable, "-m", "millstream", *arguments]
        done = subprocess.run(
            command, cwd=chain.folder, env=chain.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    chain.stop("process")
    content = orders(tmp_path / "orders.csv", 2_000).read_bytes()
    assert httpx.put(f"{chain.http}/uploads/orders.csv", content=content).status_code == 201
    chain.until(
        lambda: chain.get("/jobs/orders.csv").json()["rows_total"] == 2_000, "2,000 rows captured", 120
    )
    found = json.loads(millstream("top", "--once", "--json"))
    [job] = found["jobs"]
    assert (job["name"], job["state"], job["rows_total"]) == ("orders.csv", "computing", 2_000)
    assert {process["stage"] for process in found["processes"]} == {"watch", "sink", "serve"}
    assert "millstream process" in job["waits_for"]
    table = millstream("top", "--once")
    assert "orders.csv" in table
    assert "lag by partition" in table
    status = millstream("status", "orders.csv")
    assert "captured" in status
    assert "2,000 of 2,000 rows" in status
    assert "it waits: no worker is running" in status

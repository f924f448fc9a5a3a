"""Alert rules, dashboard and metrics fit each other, as Prometheus's own tools and parsers see it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline import metrics
from tests.services.require import missing

DEPLOY = Path(__file__).parents[2] / "deploy"
TABLE = re.findall(r"^\| `(\w+)` \| (\w+)(?:, ([\w ,]+))? \|", metrics.__doc__ or "", re.MULTILINE)
SERIES = {
    name + suffix: set(re.findall(r"\w+", labels)) - {"and"} | ({"le"} if suffix == "_bucket" else set())
    for name, kind, labels in TABLE
    for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
}
"""The labels of each of our series, as Prometheus scrapes them."""

BESIDES = {"up": set(), "ALERTS": {"alertstate", "alertname"}} | {
    sample.name: set(sample.labels)
    for family in metrics.REGISTRY.collect()
    if family.name.startswith("process_")
    for sample in family.samples
}
"""Prometheus's own, and the process's."""

SCRAPED = {"job", "instance"}
"""Labels that everything has."""


def promtool(*arguments: str, given: bytes | None = None) -> None:
    """Run promtool; what it finds fails the test."""
    program = shutil.which("promtool")
    if program is None:
        missing("promtool", "it comes with Debian's package prometheus")
    done = subprocess.run([program, *arguments], cwd=DEPLOY / "prometheus", input=given, capture_output=True)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    if given is not None:
        assert said == ""


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/millstream.json").read_text())
    return found


def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    for stage in ("capture", "process", "store"):
        metrics.ROWS.labels(stage).inc(0)
        metrics.BATCH_SECONDS.labels(stage).observe(0.1)
        metrics.REJECTS.labels(stage, "malformed").inc(0)
        metrics.LAG.labels(stage, "0").set(0)
    promtool("check", "metrics", given=metrics.exposition())


def test_each_alert_comes_when_it_shall_and_not_before() -> None:
    promtool("check", "rules", "rules.yml")
    promtool("test", "rules", "rules.test.yml")


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("file", ["prometheus/rules.yml", "grafana/dashboards/millstream.json"])
def test_rules_and_dashboard_name_metrics_that_there_are(file: str) -> None:
    text = (DEPLOY / file).read_text().replace("\\n", "\n")
    found = set(re.findall(r"\bmillstream_[a-z0-9_]+", text))
    assert found
    assert found <= SERIES.keys()


def expressions() -> list[str]:
    """Everything that the dashboard asks Prometheus for."""
    board = dashboard()
    panels = [inner for panel in board["panels"] for inner in (panel, *panel.get("panels", ()))]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return asked + [note["expr"] for note in board["annotations"]["list"]]


@pytest.mark.parametrize("text", sorted(set(expressions())))
def test_each_expression_of_the_dashboard_asks_for_series_and_labels_that_there_are(text: str) -> None:
    """What is left of PromQL without strings, functions, groupings and numbers is the names of series."""
    bare = re.sub(r'"[^"]*"', "", text)
    groups = r"\bby \(([^)]*)\)|\{([^}]*)\}"
    grouped = " ".join(part for found in re.findall(groups, bare) for part in found)
    rest = re.sub(r"\b\w+\s*(?=\()|\[\w+\]|\b(bool|or)\b", " ", re.sub(groups, " ", bare))
    named = set(re.findall(r"\b[A-Za-z_]\w*", rest))
    known = SERIES | BESIDES
    assert named
    assert named <= known.keys()
    labels = set(re.findall(r"[A-Za-z_]\w*", grouped))
    for name in named:
        assert labels <= known[name] | SCRAPED


def test_the_dashboard_is_one_that_grafana_can_load() -> None:
    """As far as can be said without a Grafana: ids, places and sources are right."""
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
    source = (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    assert f"uid: {board['uid']}" in source


def test_each_expression_of_the_dashboard_is_one_that_prometheus_parses(tmp_path: Path) -> None:
    records = [{"record": f"r{number}", "expr": text} for number, text in enumerate(expressions())]
    assert len(records) > 20
    rules = {"groups": [{"name": "dashboard", "rules": records}]}
    (tmp_path / "rules.json").write_text(json.dumps(rules))  # JSON is YAML
    promtool("check", "rules", str(tmp_path / "rules.json"))

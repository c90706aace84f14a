"""Run the contests and print the results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import (
    commands,
    contended,
    correlation,
    end_to_end,
    footprint,
    latency,
    oneiric_dag,
    persister,
    publish,
    shipping,
    spans,
    storing_delay,
    subscribing,
)
from benchmarks.figures import PAGE, write_table
from benchmarks.report import as_json, as_svg, as_text
from benchmarks.rounds import Measured, Scale, measure
from benchmarks.targets import judge

FULL = Scale(rounds=100, events=1_000, seconds=1.0)
TABLE = Scale(rounds=30, events=1_000, seconds=0.5)
SHORT = Scale(rounds=5, events=1_000, seconds=0.05, is_short=True)

CONTESTS = [
    *publish.CONTESTS,
    *subscribing.CONTESTS,
    *end_to_end.CONTESTS,
    *latency.CONTESTS,
    *contended.CONTESTS,
    *footprint.CONTESTS,
    *persister.CONTESTS,
    *storing_delay.CONTESTS,
    *shipping.CONTESTS,
    *correlation.CONTESTS,
    *commands.CONTESTS,
    *oneiric_dag.CONTESTS,
    *spans.CONTESTS,
]


def main() -> int:
    """Run the benchmarks; return 1 if a result fails its target."""
    options = _options()
    scale = SHORT if options.short else TABLE if options.write_table else FULL
    measured: list[Measured] = []
    for contest in CONTESTS:
        if options.only in contest.name:
            print(f"... {contest.name}", file=sys.stderr, flush=True)
            measured.append(measure(contest, scale))
    outcomes = judge(measured)
    print(as_text(measured, outcomes, scale))
    if options.write_table:
        write_table(measured, outcomes)
    if options.json:
        options.json.write_bytes(as_json(measured, outcomes, scale))
    if options.svg:
        options.svg.write_text(as_svg(measured), encoding="utf-8")
    return int(any(outcome.verdict == "FAILED" for outcome in outcomes))


class _Options(argparse.Namespace):
    short: bool
    only: str
    write_table: bool
    json: Path | None
    svg: Path | None


def _options() -> _Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="run few rounds, as in CI")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="run only the contests whose name contains WORD"
    )
    parser.add_argument(
        "--write-table", action="store_true", help=f"write the figures into docs/{PAGE.name}, in ten minutes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart of the peers to FILE")
    options = parser.parse_args(namespace=_Options())
    if options.short and options.write_table:
        parser.error("a short run uses small logs: its figures are not for the page")
    return options


if __name__ == "__main__":
    sys.exit(main())

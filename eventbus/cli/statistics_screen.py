"""The lines of ``eventbus stats``: what runs, how often it fails, and what became slower.

    crackerjack  41 runs: 33 succeeded, 6 failed, 2 cancelled  (7 days before: 38, 35 succeeded)
      node                 runs  failed  median    p90  4 weeks  change
      tests                  39       5   28.9s  41.0s  ▂▂▃▃▅▆▇  +38 %  slower since 19 Nov

Pure: attempts go in, lines come out. The counts are of the last 7 days; median and p90 of their successes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from eventbus.cli.humanize import duration, quantity, when
from eventbus.cli.text_width import cell_len, cut
from eventbus.events.printable import printable
from eventbus.events.words import OUTCOME_MARKS
from eventbus.ground.session_names import spell
from eventbus.views.durations import Attempt, Durations, Subject, change_of, median_in_parts, quantile

__all__ = ["attempt_lines", "figures_of", "latest_ends", "statistics_lines"]

_DAY = 86_400.0
_WEEK = 7 * _DAY
_PARTS = 7  # of 4 weeks
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
_MAX_NAME = 40
_NUMBERS = range(1, 5)  # the columns that stand on the right
_HEADERS = ("runs", "failed", "median", "p90", "4 weeks", "change")
_WORDS = ("succeeded", "failed", "cancelled", "skipped")
_LATEST = 10
_UNLIMITED = 1_000_000
Figures = dict[str, Any]


def latest_ends(attempts: Mapping[Subject, Sequence[Attempt]]) -> list[Figures]:
    """Return the last ten ends of all of these subjects, the latest first; actions are none."""
    ends = [(end, each) for each, some in attempts.items() if each.kind != "action" for end in some]
    ends.sort(key=lambda each: each[0].ended, reverse=True)
    return [
        {
            "kind": subject.kind,
            "name": subject.name,
            "node": subject.node or None,
            "ended": _time(end.ended).isoformat(),
            "seconds": end.seconds,
            "outcome": end.outcome,
            "session_id": end.session,
        }
        for end, subject in ends[:_LATEST]
    ]


def attempt_lines(
    latest: Sequence[Figures], columns: int | None, now: datetime | None, *, has_unicode: bool
) -> Iterator[str]:
    """Generate a line for each of the latest ends: when, how long, how, in which session.

    Args:
        latest: The ends, as by `latest_ends`.
        columns: The width of the terminal; None to cut nothing.
        now: The time from which others are told; None for absolute times.
        has_unicode: False if only ASCII can be shown.
    """
    width = (columns or _UNLIMITED) - 1
    names = {(each["name"], each["node"]) for each in latest}
    times = [when(each["ended"], now) for each in latest]
    size = max(map(len, times), default=0)
    for each, time in zip(latest, times, strict=True):
        mark = OUTCOME_MARKS[each["outcome"]][0 if has_unicode else 1]
        took = "-" if each["seconds"] is None else duration(each["seconds"])
        which = (
            f"  {printable(each['name'])} {printable(each['node'] or '')}".rstrip() if len(names) > 1 else ""
        )
        session = printable(spell(each["session_id"]), scrubbed=False)
        yield cut(f"  {time:<{size}}  {took:>7}  {mark} {each['outcome']:<9}  {session}{which}", width)


def figures_of(subject: Subject, attempts: Sequence[Attempt], end: float) -> Figures:
    """Return the figures of a subject in the 7 days before a time, and in the 7 before those."""
    counts, before = _counts(attempts, end - _WEEK, end), _counts(attempts, end - 2 * _WEEK, end - _WEEK)
    week = [each for each in attempts if end - _WEEK < each.ended <= end]
    durations = Durations.of(week)
    known = Durations.of(each for each in attempts if each.ended <= end)
    change = change_of(known)
    return {
        "kind": subject.kind,
        "name": subject.name,
        "node": subject.node or None,
        "runs": sum(counts.values()),
        **{word: counts[word] for word in _WORDS},
        "runs_before": sum(before.values()),
        "succeeded_before": before["succeeded"],
        "median": quantile(durations.seconds, 0.5),
        "p90": quantile(durations.seconds, 0.9),
        "medians_of_4_weeks": list(median_in_parts(known, end - 4 * _WEEK, end, _PARTS)),
        "slower": None if change is None else change.part,
        "slower_since": None if change is None else _time(change.since).isoformat(),
    }


def _counts(attempts: Sequence[Attempt], start: float, end: float) -> Counter[str]:
    return Counter(each.outcome for each in attempts if start < each.ended <= end)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


def statistics_lines(
    found: Sequence[Figures], columns: int | None = None, *, has_unicode: bool = True
) -> Iterator[str]:
    """Generate the lines for the figures of runs, nodes, skills and actions, those of one workflow together.

    Args:
        found: The figures of each subject with runs in the period.
        columns: The width of the terminal; None to cut nothing.
        has_unicode: False if only ASCII can be shown.
    """
    nodes: dict[str, list[Figures]] = {}
    for each in found:
        if each["kind"] == "node":
            nodes.setdefault(each["name"], []).append(each)
    commands = [each for each in found if each["kind"] == "run" and each["name"] not in nodes]
    runs = {each["name"]: each for each in found if each["kind"] == "run"}
    width = (columns or _UNLIMITED) - 1
    for name, rows in nodes.items():
        head = printable(name) + ("" if name not in runs else f"   {_sentence(runs[name])}")
        rows.sort(key=_attention)
        yield from (cut(line, width) for line in (head, *_table("node", rows, width, has_unicode)))
    if commands:
        commands.sort(key=_attention)
        yield from (cut(line, width) for line in _table("command", commands, width, has_unicode, indent=""))
    for each in found:
        if each["kind"] == "skill" and each["runs"]:
            yield cut(f"skill {_skill(each, found)}", width)


def _attention(each: Figures) -> tuple[float, float, float]:
    """Order what became slower first, then what failed, then what takes the most time."""
    return -(each["slower"] or 0.0), -each["failed"], -(each["median"] or 0.0)


def _sentence(run: Figures) -> str:
    parts = ", ".join(f"{run[word]} {word}" for word in _WORDS if run[word])
    before = f"before: {run['runs_before']}, {run['succeeded_before']} succeeded"
    return f"{quantity(run['runs'], 'run')}: {parts}   {before}" if parts else f"0 runs   {before}"


def _skill(skill: Figures, found: Sequence[Figures]) -> str:
    abandoned = skill["runs"] - skill["succeeded"]
    then = [
        f"{printable(each['node'] or '-')} {each['runs']}"
        for each in found
        if each["kind"] == "action" and each["name"] == skill["name"] and each["runs"]
    ]
    after = f"; after it: {', '.join(then)}" if then else ""
    return (
        f"{printable(skill['name'])}   {skill['succeeded']} of {skill['runs']} completed, "
        f"{abandoned} abandoned{after}"
    )


def _table(
    title: str, rows: Sequence[Figures], width: int, has_unicode: bool, indent: str = "  "
) -> Iterator[str]:
    cells = [[title, *_HEADERS], *(_row(each, title, has_unicode) for each in rows)]
    sizes = [max(cell_len(row[number]) for row in cells) for number in range(len(cells[0]))]
    shown = [0]
    for number in (6, 2, 3, 1, 5, 4):  # the change is the last to go
        if len(indent) + sum(sizes[each] + 2 for each in [*shown, number]) - 2 <= width:
            shown.append(number)
    for row in cells:
        texts = [_padded(row[each], sizes[each], is_number=each in _NUMBERS) for each in sorted(shown)]
        yield f"{indent}{'  '.join(texts)}".rstrip()


def _padded(text: str, size: int, *, is_number: bool) -> str:
    padding = " " * (size - cell_len(text))
    return padding + text if is_number else text + padding


def _row(each: Figures, title: str, has_unicode: bool) -> list[str]:
    name = printable(each["node"] or "" if title == "node" else each["name"], _MAX_NAME)
    times = [duration(value) if (value := each[key]) is not None else "-" for key in ("median", "p90")]
    change = "="
    if each["slower"] is not None:
        since = datetime.fromisoformat(each["slower_since"])
        change = f"+{each['slower'] * 100:.0f} %  slower since {since.day} {since:%b}"
    return [name, str(each["runs"]), str(each["failed"]), *times, _spark(each, has_unicode), change]


def _spark(each: Figures, has_unicode: bool) -> str:
    """Return a bar for each part of 4 weeks, as high as its median; a blank for one without runs."""
    values: list[float | None] = each["medians_of_4_weeks"]
    bars = _BARS if has_unicode else _ASCII_BARS
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join(" " if value is None else bars[round(value / highest * 7)] for value in values)

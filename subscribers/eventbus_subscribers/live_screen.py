"""Lay out the rows of the live view.

       0.2s  ✓ config_cleanup
      22.4s  ✗ tests  AssertionError
               ✗ codespell 5.0s · ruff-check 5.0s  (2 passes)
      11.8s  ⠹ comprehensive  ███░░░░░░░ 3/10 mypy  (pass 2)  (usual 19.0s)
      30.0s  ▸ crackerjack 2/6 nodes, 1 running, 1 failed

Pure: state, time and size go in, and rows come out. Durations stand on the left and rows are short: rows
that end at the right margin are torn for ever when a terminal becomes narrower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from eventbus import OUTCOME_MARKS, OUTCOME_STYLES, Word, duration_text
from eventbus_subscribers.live_state import LiveState
from eventbus_subscribers.node_progress import Hook, Node
from eventbus_subscribers.run_progress import Change, Run

__all__ = ["Look", "region_rows", "row_lines", "summary_rows"]

_MIN_COLUMNS = 20
_MIN_COLUMNS_FOR_NODES = 40
_MIN_COLUMNS_FOR_BARS = 80
_BAR_CELLS = 10
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MAX_NAME = 40
_MIN_MESSAGE = 8
_MAX_HOOK_ROWS = 4
_WORD_STYLES = {Word.LOST: "red", Word.WARNING: "red", Word.NOTE: "dim", Word.STARTED: "dim"}


class Look(NamedTuple):
    """What the terminal can show.

    Attributes:
        columns: Its width.
        rows: Its height.
        has_unicode: False if only ASCII can be shown.
    """

    columns: int = 80
    rows: int = 24
    has_unicode: bool = True

    @property
    def width(self) -> int:
        """The most cells of a row: one less than there are columns."""
        return max(1, self.columns - 1)

    @property
    def lead(self) -> int:
        """The cells of a duration."""
        return 8 if self.columns >= _MIN_COLUMNS_FOR_NODES else 6

    def mark(self, outcome: str) -> str:
        """Return the mark of an outcome."""
        return OUTCOME_MARKS[outcome][0 if self.has_unicode else 1]

    def spinner(self, now: float) -> str:
        """Return the mark of what is running."""
        return _SPINNER[int(now * 10) % len(_SPINNER)] if self.has_unicode else OUTCOME_MARKS["open"][1]

    def clean(self, text: str) -> str:
        """Return a printable text that the terminal's encoding has."""
        return text if self.has_unicode else text.encode("ascii", "backslashreplace").decode()

    def shortened(self, text: str, room: int) -> str:
        """Return a text with its middle left out, if it takes more cells than there are."""
        text, ellipsis = self.clean(text), "…" if self.has_unicode else ".."
        if cell_len(text) <= room:
            return text
        kept = room - len(ellipsis)
        if kept <= 1:
            return set_cell_size(text, max(0, room))
        end = set_cell_size(text[::-1], kept // 2)[::-1]
        return set_cell_size(text, kept - kept // 2) + ellipsis + end

    def cut(self, row: Text) -> Text:
        """Return a row that is no longer than the width."""
        row.truncate(self.width)
        row.rstrip()
        return row


def region_rows(state: LiveState, now: float, look: Look) -> list[Text]:
    """Return the rows that are drawn again and again: running nodes, and the status.

    Args:
        state: What is shown.
        now: The time in seconds, on the clock of the state.
        look: What the terminal can show.
    """
    running = state.running()
    if look.columns < _MIN_COLUMNS or look.rows < 2 or not (running or state.is_open() or state.ended):  # noqa: PLR2004
        return []
    status = _status_row(state, running, now, look)
    room = min(max(1, look.rows // 3), look.rows - 3)  # beside them: the rest, the status, the cursor
    if look.columns < _MIN_COLUMNS_FOR_NODES or room < 1:
        return [status]
    rows = [_node_row(node, now, look) for node in running[:room]]
    if len(running) > room:
        more = f"{'…' if look.has_unicode else '..'} {len(running) - room} more"
        rows.append(Text(" " * (look.lead + 2) + more, "dim"))
    return [*rows, status]


def row_lines(row: Change | Run | str, now: float, look: Look) -> Iterator[Text]:
    """Generate the lines of a row that is printed once."""
    if isinstance(row, str):
        yield look.cut(Text(look.clean(row), "dim"))
    elif isinstance(row, Run):
        yield from _run_lines(row, now, look)
    elif row.outcome is None:
        text = look.clean(f"{row.word:<6} {row.name}")
        yield from _folded(Text(text, _WORD_STYLES.get(Word(row.word), "")), look.lead + 2, look)
    else:
        yield from _end_lines(row, look)


def summary_rows(state: LiveState, now: float, look: Look) -> Iterator[Text]:
    """Generate the last rows: how each run ended, what failed, what is missing.

    Args:
        state: What is shown; what is still open in it is given up.
        now: The time in seconds.
        look: What the terminal can show.
    """
    lost = state.progress.lost
    for run in [*state.ended, *state.progress.give_up()]:
        yield from _run_lines(run, now, look)
    for warning in state.warnings:
        yield from row_lines(warning, now, look)
    if lost:
        yield from row_lines(Change(Word.LOST, f"{lost} events"), now, look)
    if state.unshown:
        yield from row_lines(Change(Word.LOST, f"{state.unshown} rows of this view"), now, look)


def _run_lines(run: Run, now: float, look: Look) -> Iterator[Text]:
    outcome = run.outcome or "open"
    name = look.shortened(run.label, min(_MAX_NAME, look.width // 2))
    row = Text.assemble((f"{look.mark(outcome)} {name} {_verdict(run, now)}", OUTCOME_STYLES[outcome]))
    row.append(f"  {run.counts()}", "dim")
    yield from _folded(row, 0, look, indent=2)
    for failure in run.failures.values():
        yield from _end_lines(failure, look)


def _verdict(run: Run, now: float) -> str:
    took = duration_text(now - run.began if run.seconds is None else run.seconds)
    match run.outcome:
        case None:
            return f"open after {took}: its end was not seen"
        case "succeeded":
            return f"succeeded in {took}"
        case _:
            return f"{run.outcome} after {took}"


def _end_lines(change: Change, look: Look) -> Iterator[Text]:
    outcome = change.outcome or "open"
    yield _row(look, change.seconds, look.mark(outcome), change.name, [change.error], OUTCOME_STYLES[outcome])
    indent = look.lead + 4
    hooks = change.node.failed_hooks() if change.node is not None and outcome == "failed" else []
    if hooks:
        passes = change.node.passes if change.node is not None else 1
        text = Text(f"{look.mark('failed')} {_hooks(hooks, look)}", OUTCOME_STYLES["failed"])
        text.append(f"  ({passes} passes)" if passes > 1 else "", "dim")
        yield from _folded(text, indent, look, most=_MAX_HOOK_ROWS)
    if change.message:
        yield from _folded(Text(look.clean(change.message), "dim"), indent, look, most=_MAX_HOOK_ROWS)


def _hooks(hooks: Iterable[Hook], look: Look) -> str:
    return look.clean((" · " if look.has_unicode else ", ").join(map(str, hooks)))


def _node_row(node: Node, now: float, look: Look) -> Text:
    share = node.share()
    details = [_bar(share, look), node.amount(), node.message]
    behind = [f"(pass {node.passes})" if node.passes > 1 else "", _usual(node)]
    return _row(look, now - node.began, look.spinner(now), node.name, details, "yellow", behind)


def _usual(node: Node) -> str:
    return "" if node.usual is None else f"(usual {duration_text(node.usual)})"


def _bar(share: float | None, look: Look) -> str:
    if share is None or look.columns < _MIN_COLUMNS_FOR_BARS:
        return ""
    done = round(share * _BAR_CELLS)
    full, empty = "█░" if look.has_unicode else "#."
    return full * done + empty * (_BAR_CELLS - done)


def _row(  # noqa: PLR0917 - the columns, in their order
    look: Look,
    seconds: float | None,
    mark: str,
    name: str,
    details: Sequence[str],
    style: str,
    behind: Sequence[str] = (),
) -> Text:
    """Return a row: the name in full if it fits, and of the rest what there is room for."""
    taken = "" if seconds is None else duration_text(max(0.0, seconds))
    row = Text.assemble(f"{taken:>{look.lead}}  ", (mark, style), " ")
    ends = "  ".join(each for each in behind if each)
    room = look.width - row.cell_len
    shown = look.shortened(name, min(_MAX_NAME, room) if look.columns >= _MIN_COLUMNS_FOR_BARS else room)
    row.append(shown)
    left = look.width - row.cell_len - 2
    if ends and cell_len(ends) <= left:
        left -= cell_len(ends) + 2
    else:
        ends = ""
    rest = look.clean(" ".join(each for each in details if each))
    if rest and (cell_len(rest) <= left or left >= _MIN_MESSAGE):
        row.append(f"  {look.shortened(rest, left)}", style if style == OUTCOME_STYLES["failed"] else "")
    row.append(f"  {ends}" if ends else "", "dim")
    return look.cut(row)


def _status_row(state: LiveState, running: Sequence[Node], now: float, look: Look) -> Text:
    runs = list(state.progress.open.values())
    if not runs and state.ended:
        return look.cut(next(_run_lines(state.ended[-1], now, look)))
    began, names = _subject(state, runs)
    row = Text(f"{duration_text(max(0.0, now - began)):>{look.lead}}  {look.mark('open')} ", "dim")
    row.append(look.shortened(names, max(_MIN_MESSAGE, look.width // 2)))
    failed = sum(run.nodes("failed") for run in runs)
    parts = [
        (f" {runs[0].tally()}" if len(runs) == 1 else "", "dim"),
        (f", {len(running)} running" if len(running) > 1 else "", "dim"),
        (f", {failed} failed" if failed else "", OUTCOME_STYLES["failed"]),
        (f", {state.progress.lost} lost" if state.progress.lost else "", "red"),
    ]
    for text, style in parts:
        row.append(text, style)
    return look.cut(row)


def _subject(state: LiveState, runs: Sequence[Run]) -> tuple[float, str]:
    """Return when that began which is open, and its name."""
    if len(runs) == 1:
        return runs[0].began, runs[0].label
    if runs:
        return min(run.began for run in runs), f"{len(runs)} runs"
    name, began = next(iter(state.progress.skills.values()), ("", 0.0))
    return began, name


def _folded(text: Text, lead: int, look: Look, *, indent: int = 0, most: int = 20) -> Iterator[Text]:
    """Generate the lines of a text, folded between words, each behind a lead; no more than a number."""
    lead = min(lead, look.width // 2)
    first, rest = _split(text, look.width - lead)
    yield look.cut(Text(" " * lead) + first)
    for _ in range(most - 1):
        if not rest:
            return
        inner = min(lead + indent, look.width // 2)
        first, rest = _split(rest, look.width - inner)
        yield look.cut(Text(" " * inner) + first)


def _split(text: Text, room: int) -> tuple[Text, Text]:
    """Return what fits into a row, up to a space if there is one, and the rest."""
    if text.cell_len <= room:
        return text, Text()
    fits = len(set_cell_size(text.plain, room).rstrip()) or 1
    space = text.plain.rfind(" ", 1, fits + 1)
    at = space if space > room // 3 else fits
    rest = text[at:]
    return text[:at], rest[len(rest.plain) - len(rest.plain.lstrip()) :]

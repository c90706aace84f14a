"""The screen of one session: the verdict, a row for each skill and node, and what failed, first.

    ✗ crackerjack failed after 55.7s        session 04f049c0 · yesterday 23:41 · no skill
      1 of 6 nodes succeeded, fast_hooks failed, 4 not run

       55.5s  ✗ fast_hooks     ███████████████████   99 %  RuntimeError
                ✗ codespell 5.0s · ruff-check 5.0s  (2 passes)
        0.0s  ✓ configuration                         0 %
           -  · snob_tests, coverage_ratchet, publishing, commit: not run

Pure: a view and figures go in, and lines come out. Durations stand on the left, so that rows stay short,
and a terminal that becomes narrower does not tear them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from eventbus.cli.humanize import duration, elapsed, of_attempt, quantity, when
from eventbus.correlation import CorrelatedSession
from eventbus.events.printable import printable
from eventbus.events.words import OUTCOME_MARKS, OUTCOME_STYLES
from eventbus.ground.session_names import spell
from eventbus.views import HookView, NodeView, RunView, SessionView, SkillView
from eventbus.views.durations import Usual
from eventbus.views.session_view import ViewOutcome

__all__ = ["Look", "session_lines", "tally", "verdict"]

_MIN_COLUMNS_FOR_BARS = 80
_MIN_COLUMNS_FOR_USUAL = 60
_BAR_CELLS = 20
_MAX_NAME = 40
_MAX_MESSAGE = 500
_INDENT = 10  # the column of the marks
_MAX_TITLE = 120
_UNLIMITED = 1_000_000

_GAP = 2
_MAX_NAMES = 5
_CONSOLE = Console(width=_UNLIMITED)  # only to measure by

_ORDER = ("failed", "unfinished", "cancelled", "open", "succeeded", "skipped", "not run")
"""What failed is shown first."""

_UNEVENTFUL = ("succeeded", "skipped", "not run")


UsualOf = Callable[[str, str], "Usual | None"]
"""Returns what is usual for a node of a workflow; None if too little is known."""


class Look(NamedTuple):
    """What the screen can show.

    Attributes:
        columns: Its width in columns; None for a file or a pipe, where nothing is cut.
        has_unicode: False if only ASCII can be shown.
        now: The time from which others are told, such as ``yesterday``; None for absolute times.
        is_compact: True to leave out the nodes that succeeded, were skipped, or have not begun.
    """

    columns: int | None = None
    has_unicode: bool = True
    now: datetime | None = None
    is_compact: bool = False

    @property
    def width(self) -> int:
        """The most columns of a line: one less than there are, or a full row would wrap."""
        return _UNLIMITED if self.columns is None else max(1, self.columns - 1)

    @property
    def ellipsis(self) -> str:
        """What stands for the middle of a name that is too long."""
        return "…" if self.has_unicode else ".."

    def mark(self, outcome: ViewOutcome) -> str:
        """Return the mark of an outcome."""
        return OUTCOME_MARKS[outcome][0] if self.has_unicode else f"{OUTCOME_MARKS[outcome][1]:<6}"


def session_lines(
    view: SessionView, session: CorrelatedSession, look: Look, usual_of: UsualOf | None = None
) -> Iterator[Text]:
    """Generate the lines of a session's screen.

    Args:
        view: The session's skills, runs and nodes.
        session: Its figures.
        look: What the screen can show.
        usual_of: What is usual for its nodes; None if that is not known.
    """
    yield from _verdict(view, session, look)
    yield Text()
    for skill in view.skills.values():
        yield _row(look, skill.outcome, _skill_name(skill), _seconds(skill, look), _error(skill.error_type))
    several = len(view.runs) > 1
    for run in view.runs.values():
        if several or not run.attempts:
            yield _row(look, run.outcome, _run_name(run), _seconds(run, look), _run_end(run))
        yield from _node_rows(run, look, usual_of)
    for note in view.notes:
        yield from _folded(look, f"note: {printable(note)}", role="dim")
    if session.events_lost:
        lost = f"up to {quantity(session.events_lost, 'event')} lost; the figures may be too low"
        yield from _folded(look, lost, role="failed")


def _verdict(view: SessionView, session: CorrelatedSession, look: Look) -> Iterator[Text]:
    title = f"{look.mark(session.outcome)} {verdict(view, session, look)}"
    skills = ", ".join(printable(each) for each in session.skill_names) or "no skill"
    name = printable(spell(session.session_id), scrubbed=False)
    place = f"session {name} · {when(session.start_time, look.now)} · {skills}"
    if not look.has_unicode:
        place = place.replace(" · ", ", ")
    style = OUTCOME_STYLES.get(session.outcome, "")
    if cell_len(title) + cell_len(place) + 4 <= min(look.width, _MAX_TITLE):
        yield Text.assemble((title, style), "    ", (place, "dim"))
    else:
        yield from _folded(look, title, role=session.outcome, indent=0)
        yield from _folded(look, place, role="dim")
    counts = tally(view, session)
    if counts:
        yield from _folded(look, counts)


def verdict(view: SessionView, session: CorrelatedSession, look: Look) -> str:
    """Return in a few words what became of a session."""
    return f"{_subject(view)} {_what_happened(view, session, look)}"


def _subject(view: SessionView) -> str:
    names = dict.fromkeys(printable(run.workflow_id) for run in view.runs.values())
    if not names:
        names = dict.fromkeys(f"skill {printable(skill.skill_name)}" for skill in view.skills.values())
    first, *others = names or ["session"]
    return f"{first} and {quantity(len(others), 'other')}" if others else first


def _what_happened(view: SessionView, session: CorrelatedSession, look: Look) -> str:
    took = _took(view, session, look)
    match session.outcome:
        case "succeeded":
            return f"succeeded in {took}"
        case "failed":
            code = f" with exit code {session.exit_code}" if session.exit_code else ""
            return f"failed after {took}{code}"
        case "cancelled":
            return f"cancelled after {took}"
        case "skipped":
            return "skipped: nothing to do"
        case "unfinished":
            return f"unfinished: its process is gone, last seen after {took}"
        case _:
            return f"open, {took} so far"


def _took(view: SessionView, session: CorrelatedSession, look: Look) -> str:
    """Return how long the only run took, otherwise the time from the first event to the last, or to now."""
    seconds = _seconds(next(iter(view.runs.values())), look) if len(view.runs) == 1 else None
    if seconds is not None:
        return duration(seconds)
    if session.end_time is not None:
        return elapsed(session.start_time, session.end_time)
    end = look.now if session.is_open and look.now else view.ended
    return duration(max(0.0, (end - view.began).total_seconds())) if view.began and end else "0.0s"


def tally(view: SessionView, session: CorrelatedSession) -> str:
    """Return how the nodes ended, each by its best attempt, in one sentence."""
    count = sum(len(run.attempts) for run in view.runs.values())
    if not count:
        return ""
    parts = [f"{session.workflow_nodes_completed} of {quantity(count, 'node')} succeeded"]
    if session.workflow_nodes_failed:
        names = session.failed_nodes[:_MAX_NAMES]
        more = session.workflow_nodes_failed - len(names)
        parts.append(f"{', '.join(map(printable, names))}{f' and {more} more' if more else ''} failed")
    others = {
        "cancelled": session.workflow_nodes_cancelled,
        "skipped": session.workflow_nodes_skipped,
        "open": session.node_attempts_open,
        "unfinished": session.node_attempts_unfinished,
        "not run": session.workflow_nodes_not_run,
    }
    return ", ".join([*parts, *(f"{number} {word}" for word, number in others.items() if number)])


def _node_rows(run: RunView, look: Look, usual_of: UsualOf | None) -> Iterator[Text]:
    hidden = _UNEVENTFUL if look.is_compact else ("not run",)
    begun = [each for each in run.nodes() if each.outcome not in hidden]
    begun.sort(key=lambda each: _ORDER.index(each.outcome))
    room = max((cell_len(of_attempt(each.node_id, each.attempt)) for each in begun), default=0)
    whole = _seconds(run, look)
    for node in begun:
        end = _error(node.error_type) or (_progress(node) if node.outcome == "open" else "")
        known = None if usual_of is None else usual_of(run.workflow_id, node.node_id)
        usual = _beside_usual(look, _seconds(node, look), known)
        end = "  ".join(each for each in (usual, end) if each)
        yield _row(
            look, node.outcome, of_attempt(node.node_id, node.attempt), _seconds(node, look), end, room, whole
        )
        yield from _hook_lines(node, look)
        if node.error_message:
            yield from _folded(
                look, printable(node.error_message, _MAX_MESSAGE), indent=_INDENT + 2, role="dim"
            )
    planned = ", ".join(printable(each.node_id) for each in run.nodes() if each.outcome == "not run")
    if planned and not look.is_compact:
        yield from _folded(look, f"{look.mark('not run')} {planned}: not run", lead=f"{'-':>8}  ", role="dim")


def _row(  # noqa: PLR0917 - the columns, in their order
    look: Look,
    outcome: ViewOutcome,
    name: str,
    seconds: float | None,
    end: str,
    room: int = 0,
    whole: float | None = None,
) -> Text:
    """Return a row: how long it took, its mark and name, its share of its run, and its error."""
    head = f"{'-' if seconds is None else duration(seconds):>8}  "
    line = Text.assemble(head, (look.mark(outcome), OUTCOME_STYLES[outcome]), " ")
    left = max(look.width - line.cell_len, 1)
    share = _share(look, seconds, whole)
    room = min(room, _MAX_NAME, max(left - len(share), 1)) if look.columns else room
    if look.columns:
        name = _shortened(name, min(left, room or left), look.ellipsis)
    line.append(name + (" " * (room - cell_len(name)) + share if share else ""))
    left = look.width - line.cell_len - _GAP
    if end and left > _GAP:
        line.append(f"  {_shortened(end, left, look.ellipsis)}", OUTCOME_STYLES[outcome])
    line.truncate(look.width)
    return line


def _beside_usual(look: Look, seconds: float | None, usual: Usual | None) -> str:
    """Return what was usual for a node, and how much longer it took if that is more than chance."""
    if usual is None or look.width + 1 < _MIN_COLUMNS_FOR_USUAL:
        return ""
    more = usual.excess(seconds)
    return f"usual {duration(usual.seconds)}" + ("" if more is None else f", +{duration(more)}")


def _share(look: Look, seconds: float | None, whole: float | None) -> str:
    """Return a bar, and the part of a run that a node took."""
    if seconds is None or not whole or look.width + 1 < _MIN_COLUMNS_FOR_BARS:
        return ""
    share = min(1.0, seconds / whole)
    bar = ("█" if look.has_unicode else "#") * round(share * _BAR_CELLS)
    return f"  {bar:<{_BAR_CELLS}}  {int(share * 100):>3} %"


def _hook_lines(node: NodeView, look: Look) -> Iterator[Text]:
    """Generate the lines that name the hooks of a node that failed, or are going."""
    shown: list[tuple[ViewOutcome, list[HookView]]] = [("failed", node.hooks_that("failed"))]
    if node.outcome in ("open", "unfinished"):
        shown.append((node.outcome, node.hooks_that("open")))
    for outcome, found in shown:
        if not found:
            continue
        passes = f"  ({node.passes} passes)" if node.passes > 1 else ""
        separator = " · " if look.has_unicode else ", "
        text = f"{look.mark(outcome)} {separator.join(map(_hook, found))}{passes}"
        yield from _folded(look, text, indent=_INDENT + 2, role=outcome)


def _hook(hook: HookView) -> str:
    taken = "" if hook.seconds is None else f" {duration(hook.seconds)}"
    reason = f" {printable(hook.status)}" if hook.status not in ("failed", "running") else ""
    return f"{printable(hook.name)}{reason}{taken}"


def _progress(node: NodeView) -> str:
    """Return how far a node is; the step, unless its hooks are shown."""
    total = "" if node.total is None else f"/{node.total:g}"
    amount = f"{node.completed:g}{total}" if total or node.completed else ""
    step = printable(node.message) if node.message and not node.hooks else ""
    return " ".join(each for each in (amount, step) if each)


def _seconds(each: SkillView | RunView | NodeView, look: Look) -> float | None:
    """Return how long something took, or has been going so far."""
    if each.outcome == "open" and each.began is not None and look.now is not None:
        return max(0.0, (look.now - each.began).total_seconds())
    return each.seconds


def _skill_name(skill: SkillView) -> str:
    path = f" ({printable(skill.path)})" if skill.path else ""
    then = f", then {', '.join(map(printable, skill.follow_up_actions))}" if skill.follow_up_actions else ""
    return f"skill {printable(skill.skill_name)}{path}{then}"


def _run_name(run: RunView) -> str:
    return printable(run.workflow_id)


def _run_end(run: RunView) -> str:
    code = f"exit code {run.exit_code}" if run.exit_code else ""
    return ", ".join(each for each in (code, _error(run.error_type)) if each)


def _error(error_type: str | None) -> str:
    return printable(error_type) if error_type else ""


def _folded(look: Look, text: str, *, role: str = "", indent: int = 2, lead: str = "") -> Iterator[Text]:
    """Generate a text folded to the width, with an indent or a lead before its first line."""
    lead = (lead or " " * indent)[: look.width // 2]
    room = max(1, look.width - len(lead))
    for number, part in enumerate(Text(text, OUTCOME_STYLES.get(role, role)).wrap(_CONSOLE, room)):
        part.rstrip()
        yield Text.assemble(lead if number == 0 else " " * len(lead), part)


def _shortened(text: str, room: int, ellipsis: str) -> str:
    """Return a text with its middle left out, if it takes more cells than there are."""
    if cell_len(text) <= room:
        return text
    kept = room - len(ellipsis)
    if kept <= 1:
        return set_cell_size(text, room)
    end = set_cell_size(text[::-1], kept // 2)[::-1]
    return set_cell_size(text, kept - kept // 2) + ellipsis + end

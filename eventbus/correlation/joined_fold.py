"""Several sessions that were linked, read as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from itertools import chain

import msgspec

from eventbus.correlation.bounded_memory import MAX_NAMES, add_name, names_in_order
from eventbus.correlation.correlated_session import CorrelatedSession
from eventbus.correlation.hook_fold import HookFold
from eventbus.correlation.links import SessionLinks
from eventbus.correlation.overlap import overlap
from eventbus.correlation.session_fold import OpenItems, SessionFold

__all__ = ["JoinedFold", "joined"]

_SUMS = [
    each.name
    for each in msgspec.structs.fields(CorrelatedSession)
    if each.type in (int, float) and each.name != "skill_duration_in_workflows"
]


class JoinedFold:
    """The folds of linked sessions as those of one.

    They stay apart until they are read: a link may arrive before the events, after them or in between.

    Args:
        name: The name of the session that the others belong to.
        folds: The folds; at least one, in any order.
    """

    __slots__ = ("_folds", "name")

    def __init__(self, name: str, folds: list[SessionFold]) -> None:
        self.name: str = name
        # In an order of their own: they come in that of their latest events, which a reader may not know.
        self._folds = sorted(folds, key=lambda fold: (fold.start, fold.name))

    @property
    def start(self) -> datetime:
        """The earliest start."""
        return min(fold.start for fold in self._folds)

    def open_items(self) -> OpenItems:
        """Return what they began or planned and did not end."""
        parts = [fold.open_items() for fold in self._folds]
        return OpenItems(*(list(chain.from_iterable(each)) for each in zip(*parts, strict=True)))

    def figures(self) -> CorrelatedSession:
        """Return the session as it stands, without its records."""
        parts = [fold.figures() for fold in self._folds]
        runs, skills = [fold.runs for fold in self._folds], [fold.skills for fold in self._folds]
        ends = [part.end_time for part in parts if part.end_time is not None]
        hooks = HookFold.joined([fold.hooks for fold in self._folds if fold.hooks is not None]).figures()
        failed_hooks = tuple(each.hook for each in hooks if each.outcome == "failed")
        exits = [run.exit for run in runs if run.exit is not None]
        errors = [run.error for run in runs if run.error is not None]
        joined = CorrelatedSession(
            session_id=self.name,
            start_time=min(part.start_time for part in parts),
            end_time=max(ends) if len(ends) == len(parts) else None,
            skill_names=_names(skill.names for skill in skills),
            workflow_ids=_names(run.workflows for run in runs),
            failed_nodes=tuple(dict.fromkeys(each for part in parts for each in part.failed_nodes))[
                :MAX_NAMES
            ],
            exit_code=min(exits)[2] if exits else None,
            error_type=min(errors)[1] if errors else None,
            hooks=hooks,
            failed_hooks=failed_hooks,
            skill_duration_in_workflows=overlap(
                [each for skill in skills for each in skill.intervals or ()],
                [each for run in runs for each in run.intervals or ()],
            ),
        )
        for name in _SUMS:
            setattr(joined, name, sum(getattr(part, name) for part in parts))
        joined.hooks_failed = len(failed_hooks)
        return joined

    def capture(self) -> Callable[[], CorrelatedSession]:
        """Return a function that builds the session as it stands now, with its records."""
        return partial(_with_records, self.figures(), [fold.capture() for fold in self._folds])


def joined(folds: Iterable[SessionFold], links: SessionLinks) -> list[SessionFold | JoinedFold]:
    """Return folds by the sessions that they belong to."""
    if not links:
        return [*folds]
    families: dict[str, list[SessionFold]] = {}
    for fold in folds:
        families.setdefault(links.owner(fold.name), []).append(fold)
    return [_joined(name, family) for name, family in families.items()]


def _joined(name: str, folds: list[SessionFold]) -> SessionFold | JoinedFold:
    return folds[0] if len(folds) == 1 and folds[0].name == name else JoinedFold(name, folds)


def _with_records(
    session: CorrelatedSession, captured: list[Callable[[], CorrelatedSession]]
) -> CorrelatedSession:
    parts = [capture() for capture in captured]
    session.skill_invocations = sorted(
        (each for part in parts for each in part.skill_invocations), key=lambda each: each["invoked_at"]
    )
    session.workflow_events = sorted(
        (each for part in parts for each in part.workflow_events), key=lambda each: each["timestamp"]
    )
    return session


def _names(parts: Iterable[dict[str, datetime]]) -> tuple[str, ...]:
    names: dict[str, datetime] = {}
    for part in parts:
        for name, time in part.items():
            add_name(names, name, time)
    return names_in_order(names)

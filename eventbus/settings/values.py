"""The settings, their types and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from eventbus.ground.option_entry import Option
from eventbus.ground.similar_names import form_of

__all__ = [
    "DEFAULT_DIRECTORY",
    "DEFAULT_FOLLOW_UP_ACTIONS",
    "DEFAULT_KEEP_BYTES",
    "DEFAULT_KEEP_DAYS",
    "DEFAULT_SEGMENT_BYTES",
    "ProgressMode",
    "Settings",
    "SyncPolicy",
]

DEFAULT_DIRECTORY = ".session-buddy"
"""The directory of the event log, within the project."""

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024
"""The size in bytes beyond which another segment is begun."""

DEFAULT_KEEP_DAYS = 30.0
"""The number of days after which segments are removed."""

DEFAULT_KEEP_BYTES = 1024 * 1024 * 1024
"""The size in bytes of all segments beyond which the oldest are removed."""

DEFAULT_FOLLOW_UP_ACTIONS = (
    "crackerjack",
    "crackerjack run",
    "eventbus crackerjack",
    "gh pr",
    "gh release",
    "git commit",
    "git merge",
    "git push",
    "git tag",
    "twine upload",
    "uv publish",
)
"""The commands that count as follow-up actions of an agent's skill."""

ProgressMode: TypeAlias = Literal["auto", "tty", "plain", "quiet", "json"]
"""How progress is shown: `plain` lines, `quiet` (problems and ends of workflows only), `json` (one object
per event), `tty` (the running nodes, drawn again and again), or whichever fits the stream (`auto`)."""

SyncPolicy: TypeAlias = Literal["never", "interval", "always"]
"""When written events are made to reach the disk."""

_OFF_BY_DEFAULT = frozenset({"event_logger", "otel_spans"})
"""Progress shows the same events as the event logger. Spans leave the machine, which only a user may want."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings.

    Attributes:
        directory: The directory of the event log.
        progress: How progress is shown.
        disabled: The names of plugins not to load, beside those that are off by default.
        enabled: The names of plugins to load although they are off by default. Those are the event logger,
            since progress shows the same events, and the spans, which need an extra and a collector.
        sync: When written events are made to reach the disk.
        segment_bytes: The size in bytes beyond which another segment of the log is begun.
        keep_days: For how many days after its last event a segment is kept; 0: no limit.
        keep_bytes: How many bytes of segments are kept in all; 0: no limit.
        follow_up_actions: The commands of an agent, by their first words, that are recorded as follow-up
            actions of its skills. Nothing else of a command is.
        plugins: The options of plugins, by the name of the plugin and the name of the option.
        nats: The options of `eventbus.remote`, by their names.
        origins: The place of each setting that was read, for messages, by its key; of a name in
            `disabled` or `enabled`, by ``plugins.NAME``.
    """

    directory: Path = Path(DEFAULT_DIRECTORY)
    progress: ProgressMode = "auto"
    disabled: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    sync: SyncPolicy = "interval"
    segment_bytes: Annotated[int, msgspec.Meta(gt=0)] = DEFAULT_SEGMENT_BYTES
    keep_days: Annotated[float, msgspec.Meta(ge=0)] = DEFAULT_KEEP_DAYS
    keep_bytes: Annotated[int, msgspec.Meta(ge=0)] = DEFAULT_KEEP_BYTES
    follow_up_actions: tuple[str, ...] = DEFAULT_FOLLOW_UP_ACTIONS
    plugins: Mapping[str, Mapping[str, Option]] = {}
    nats: Mapping[str, Option] = {}
    origins: Mapping[str, str] = {}

    @property
    def left_out(self) -> frozenset[str]:
        """The names of the plugins that are not loaded; of a name in both lists, `disabled` counts."""
        return _OFF_BY_DEFAULT.difference(self.enabled).union(self.disabled)

    def options_of(self, plugin: str) -> dict[str, Option]:
        """Return the options of a plugin, by their names."""
        return {
            key: option
            for name, options in self.plugins.items()
            if form_of(name) == form_of(plugin)
            for key, option in options.items()
        }

"""Settings: the table ``[tool.eventbus]`` of a project's pyproject.toml, and the environment.

    [tool.eventbus]
    directory = ".session-buddy"   # EVENTBUS_DIR
    progress = "plain"             # EVENTBUS_PROGRESS
    disabled = ["live_correlator"] # EVENTBUS_DISABLED: names with commas between them
    enabled = ["event_logger"]     # EVENTBUS_ENABLED: it is off by default
    sync = "interval"              # EVENTBUS_SYNC: never, interval, always
    segment_bytes = 16_777_216     # EVENTBUS_SEGMENT_BYTES
    keep_days = 30                 # EVENTBUS_KEEP_DAYS; 0: no limit
    keep_bytes = 1_073_741_824     # EVENTBUS_KEEP_BYTES; 0: no limit
    follow_up_actions = ["git commit", "git push", "make"]

The environment wins; an empty variable counts as unset. `disabled` adds to the plugins that are off by
default, and `enabled` takes away from them. Commands report a wrong setting as an error.
`log_directory` is for programs that are observed: it never raises.
"""

from __future__ import annotations

from eventbus.settings.loading import load_settings
from eventbus.settings.log_place import log_directory
from eventbus.settings.values import (
    DEFAULT_DIRECTORY,
    DEFAULT_FOLLOW_UP_ACTIONS,
    DEFAULT_KEEP_BYTES,
    DEFAULT_KEEP_DAYS,
    DEFAULT_SEGMENT_BYTES,
    ProgressMode,
    Settings,
    SyncPolicy,
)

__all__ = [
    "DEFAULT_DIRECTORY",
    "DEFAULT_FOLLOW_UP_ACTIONS",
    "DEFAULT_KEEP_BYTES",
    "DEFAULT_KEEP_DAYS",
    "DEFAULT_SEGMENT_BYTES",
    "ProgressMode",
    "Settings",
    "SyncPolicy",
    "load_settings",
    "log_directory",
]

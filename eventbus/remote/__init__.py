"""Ship the log to a NATS JetStream, and read what other hosts have shipped.

`import eventbus` does not import this package; it needs the extra ``nats``. docs/remote.md lists what is
promised.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus.remote.forwarder import Forwarder, make_stream
    from eventbus.remote.forwarding import ForwarderStatistics
    from eventbus.remote.remote_events import ReaderStatistics, RemoteEvents
    from eventbus.remote.remote_settings import RemoteSettings, load_remote_settings
else:
    from eventbus.ground.lazy_names import lazy_names

    # Not imported here: what reads the stream needs none of what ships to it.
    __getattr__ = lazy_names(
        globals(),
        {
            "Forwarder": "forwarder",
            "ForwarderStatistics": "forwarding",
            "ReaderStatistics": "remote_events",
            "RemoteEvents": "remote_events",
            "RemoteSettings": "remote_settings",
            "load_remote_settings": "remote_settings",
            "make_stream": "forwarder",
        },
    )


__all__ = [
    "Forwarder",
    "ForwarderStatistics",
    "ReaderStatistics",
    "RemoteEvents",
    "RemoteSettings",
    "load_remote_settings",
    "make_stream",
]

"""Test a subscriber: a conformance suite, a bus that settles, a recorder, sessions, and faults.

    test_slow_nodes = conformance_test(SlowNodes)


    def test_a_slow_node_is_found() -> None:
        recorder = Recorder()
        with SettlingBus([SlowNodes(), recorder]) as bus:
            bus.play(quality_session())
        assert recorder.one(PatternDetected).message == "publish"

The fixtures are in `eventbus.testing.pytest_plugin`; nothing else here needs pytest.
"""

from __future__ import annotations

from eventbus.testing.conformance import (
    SCENARIOS,
    Finding,
    Limits,
    available_backends,
    check_subscriber,
    conformance_test,
)
from eventbus.testing.faults import cancelled, crashing, hanging, raising, slow
from eventbus.testing.recorder import Recorder
from eventbus.testing.sessions import PHASES, SessionBuilder, quality_session
from eventbus.testing.settling_bus import SettlingBus
from eventbus.testing.unusual_events import unusual_events, with_gaps

__all__ = [
    "PHASES",
    "SCENARIOS",
    "Finding",
    "Limits",
    "Recorder",
    "SessionBuilder",
    "SettlingBus",
    "available_backends",
    "cancelled",
    "check_subscriber",
    "conformance_test",
    "crashing",
    "hanging",
    "quality_session",
    "raising",
    "slow",
    "unusual_events",
    "with_gaps",
]

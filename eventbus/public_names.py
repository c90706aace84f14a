"""All public names of `eventbus`, which imports this module when the first of them is used."""

from eventbus.bus import EventBus
from eventbus.contracts import DEFAULT_CAPACITY, EventSink, EventTypes, Overflow, Subscriber
from eventbus.coordinator import SessionCoordinator
from eventbus.correlation import CorrelatedSession, Correlation, correlation_report, detect_patterns
from eventbus.correlator import SkillsWorkflowCorrelator
from eventbus.delivery.current_bus import current_bus
from eventbus.delivery.own_thread import OwnThread
from eventbus.delivery.rate_limited_log import RateLimitedLog
from eventbus.delivery.statistics import BusStatistics, DrainReport, SubscriptionStatistics
from eventbus.delivery.stream import EventStream
from eventbus.delivery.subscription import Subscription
from eventbus.errors import (
    BusStateError,
    DecodeError,
    EventBusError,
    IntegrationError,
    PluginError,
    RemoteError,
    SettingsError,
    StreamStateError,
    SubscriberError,
    WouldDeadlockError,
)
from eventbus.events import (
    Event,
    EventsLost,
    NodeCompleted,
    NodeEvent,
    NodeProgress,
    NodeStarted,
    PatternDetected,
    SessionCorrelated,
    SessionLinked,
    SkillCompleted,
    SkillEvent,
    SkillFollowedUp,
    SkillStarted,
    SubscriberFailed,
    UnknownEvent,
    WorkflowCompleted,
    WorkflowEvent,
    WorkflowStarted,
    decode,
    encode,
    encode_lines,
    event_types,
)
from eventbus.events.outcomes import Outcome, outcome_of
from eventbus.events.printable import printable
from eventbus.events.provenance import exclude_read_from, is_new_here, is_remote, mark_as_remote
from eventbus.events.records import SkillInvocation
from eventbus.events.redaction import scrubbed_line, scrubbed_lines
from eventbus.events.scrubbing import scrub
from eventbus.events.words import OUTCOME_MARKS, OUTCOME_STYLES, OUTCOME_VERBS, Word, duration_text
from eventbus.ground.fork_safety import ForkSafeLock
from eventbus.plugins.options import FROM_USER
from eventbus.session import current_session_id, session_scope
from eventbus.settings import (
    DEFAULT_DIRECTORY,
    DEFAULT_KEEP_BYTES,
    DEFAULT_KEEP_DAYS,
    DEFAULT_SEGMENT_BYTES,
    ProgressMode,
    SyncPolicy,
    log_directory,
)
from eventbus.settings.progress_mode import choose_mode
from eventbus.trackers import (
    PhaseTask,
    SkillMetrics,
    SkillMetricsTracker,
    SkillTracker,
    TrackedSkill,
    WorkflowEventTracker,
    get_tracker,
    track_skill,
)

__all__ = [
    "DEFAULT_CAPACITY",
    "DEFAULT_DIRECTORY",
    "DEFAULT_KEEP_BYTES",
    "DEFAULT_KEEP_DAYS",
    "DEFAULT_SEGMENT_BYTES",
    "FROM_USER",
    "OUTCOME_MARKS",
    "OUTCOME_STYLES",
    "OUTCOME_VERBS",
    "BusStateError",
    "BusStatistics",
    "CorrelatedSession",
    "Correlation",
    "DecodeError",
    "DrainReport",
    "Event",
    "EventBus",
    "EventBusError",
    "EventSink",
    "EventStream",
    "EventTypes",
    "EventsLost",
    "ForkSafeLock",
    "IntegrationError",
    "NodeCompleted",
    "NodeEvent",
    "NodeProgress",
    "NodeStarted",
    "Outcome",
    "Overflow",
    "OwnThread",
    "PatternDetected",
    "PhaseTask",
    "PluginError",
    "ProgressMode",
    "RateLimitedLog",
    "RemoteError",
    "SessionCoordinator",
    "SessionCorrelated",
    "SessionLinked",
    "SettingsError",
    "SkillCompleted",
    "SkillEvent",
    "SkillFollowedUp",
    "SkillInvocation",
    "SkillMetrics",
    "SkillMetricsTracker",
    "SkillStarted",
    "SkillTracker",
    "SkillsWorkflowCorrelator",
    "StreamStateError",
    "Subscriber",
    "SubscriberError",
    "SubscriberFailed",
    "Subscription",
    "SubscriptionStatistics",
    "SyncPolicy",
    "TrackedSkill",
    "UnknownEvent",
    "Word",
    "WorkflowCompleted",
    "WorkflowEvent",
    "WorkflowEventTracker",
    "WorkflowStarted",
    "WouldDeadlockError",
    "choose_mode",
    "correlation_report",
    "current_bus",
    "current_session_id",
    "decode",
    "detect_patterns",
    "duration_text",
    "encode",
    "encode_lines",
    "event_types",
    "exclude_read_from",
    "get_tracker",
    "is_new_here",
    "is_remote",
    "log_directory",
    "mark_as_remote",
    "outcome_of",
    "printable",
    "scrub",
    "scrubbed_line",
    "scrubbed_lines",
    "session_scope",
    "track_skill",
]

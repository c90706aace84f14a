"""Fold events into sessions: the same pure code live and on demand."""

from eventbus.correlation.correlation import (
    MAX_RECORDS,
    MAX_SESSIONS,
    UNATTRIBUTED,
    CorrelatedFigures,
    CorrelatedSession,
    Correlation,
    OpenItems,
    Pattern,
    correlation_report,
    detect_patterns,
)

__all__ = [
    "MAX_RECORDS",
    "MAX_SESSIONS",
    "UNATTRIBUTED",
    "CorrelatedFigures",
    "CorrelatedSession",
    "Correlation",
    "OpenItems",
    "Pattern",
    "correlation_report",
    "detect_patterns",
]

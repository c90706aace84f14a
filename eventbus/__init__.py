"""eventbus: an async, in-process publish/subscribe event bus that never blocks its publishers."""

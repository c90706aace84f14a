"""Ship the log to a NATS JetStream, and read what other hosts have shipped.

`import eventbus` does not import this package; it needs the extra ``nats``. docs/remote.md lists what is
promised.
"""

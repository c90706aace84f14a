"""The fixtures that projects get from `eventbus.testing.pytest_plugin`."""

from eventbus.testing.pytest_plugin import eventbus_bus, eventbus_directory, eventbus_recorder

__all__ = ["eventbus_bus", "eventbus_directory", "eventbus_recorder"]

"""The built-in subscribers, each a plugin like anyone's."""

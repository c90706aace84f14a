"""eventbus: an async, in-process publish/subscribe event bus that never blocks its publishers.

All public names are in `eventbus.public_names`. It is imported when the first of them is used, so that
`eventbus --version` and the commands that read a log need not wait for what they do not use. A plugin
author needs to read `eventbus.contracts` only.
"""

TYPE_CHECKING = False  # type checkers know the name; importing `typing` costs more than the rest

__version__ = "0.1.0"
__distribution__ = "anyio-eventbus"
"""The name to install; the package index has another `event-bus`. No other package `eventbus` has this."""

if TYPE_CHECKING:
    from eventbus.public_names import *  # noqa: F403 - its `__all__` says what
    from eventbus.public_names import __all__ as __all__
else:
    # Type checkers do not see it: with a `__getattr__` any misspelled name would exist. Rejected: a
    # table of each name's module, which would list every name a third time.
    def __getattr__(name: str) -> object:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)  # inspection asks for many that are not there
        import importlib  # noqa: PLC0415

        public_names = importlib.import_module("eventbus.public_names")
        names = globals()
        names.update((each, getattr(public_names, each)) for each in ("__all__", *public_names.__all__))
        try:
            return names[name]  # or a module that is imported now
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})

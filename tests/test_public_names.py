"""The front door: `eventbus` imports its public names when the first of them is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import eventbus
from eventbus import public_names


def test_every_public_name_is_there() -> None:
    """Each name of `eventbus.__all__` is the object that its own module defines, and `dir` lists it."""
    assert eventbus.__all__ == public_names.__all__
    for name in public_names.__all__:
        assert getattr(eventbus, name) is getattr(public_names, name)
    assert {*public_names.__all__, "__version__"} <= {*dir(eventbus)}


def test_another_name_is_an_error() -> None:
    """A name that does not exist is an `AttributeError` with the name, or an `ImportError`."""
    with pytest.raises(AttributeError, match="module 'eventbus' has no attribute 'EvntBus'"):
        eventbus.EvntBus  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="EvntBus"):
        exec("from eventbus import EvntBus")
    with pytest.raises(AttributeError):
        eventbus.__wrapped__  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    """`import eventbus` imports no other module of it; then its names, and its modules, can be used."""
    script = (
        "import sys, eventbus\n"
        "print(*(each for each in sys.modules if each.startswith('eventbus')))\n"
        "from eventbus import history\n"
        "print(history.__name__, eventbus.bus.__name__, eventbus.EventBus.__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout == "eventbus\neventbus.history eventbus.bus eventbus.bus\n"


def test_what_few_programs_need_is_not_imported() -> None:
    """The public names import no event loop, no database, and nothing that is only needed to write a file."""
    script = "import sys\nfrom eventbus import *\nprint(*sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    imported = set(done.stdout.split())
    assert "eventbus.bus" in imported
    assert not imported & {"asyncio", "trio", "sqlite3", "tempfile", "subprocess", "eventbus.history"}

"""Actions on imported modules: in any order, once, and invisible."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from eventbus.integrations.post_import import when_imported


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with modules to import."""
    directory = tmp_path / "sample_package"
    directory.mkdir()
    (directory / "__init__.py").write_text("")
    (directory / "first.py").write_text("value = 1\n")
    (directory / "second.py").write_text("from sample_package.first import value\n")
    (directory / "broken.py").write_text("raise LookupError('broken')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield "sample_package"
    for name in [name for name in sys.modules if name.split(".")[0] == "sample_package"]:
        del sys.modules[name]


def test_an_action_is_called_as_soon_as_its_module_is_imported(package: str) -> None:
    """It is called once, before another module can take names from its module."""
    seen: list[str] = []

    def act(module: ModuleType) -> None:
        seen.append(module.__name__)
        module.__dict__["value"] += 1

    with when_imported({f"{package}.first": act}):
        assert seen == []
        second = importlib.import_module(f"{package}.second")
        importlib.import_module(f"{package}.first")
    assert seen == [f"{package}.first"]
    assert second.value == 2


def test_the_action_of_an_imported_module_is_called_at_once(package: str) -> None:
    """The order of imports does not matter."""
    importlib.import_module(f"{package}.first")
    seen: list[ModuleType] = []
    with when_imported({f"{package}.first": seen.append}):
        assert [module.__name__ for module in seen] == [f"{package}.first"]


def test_a_module_shows_no_trace_of_its_action(package: str) -> None:
    """Its loader and its source are those of any other module."""
    with when_imported({f"{package}.first": lambda _: None}):
        first = importlib.import_module(f"{package}.first")
        second = importlib.import_module(f"{package}.second")
    assert type(first.__loader__) is type(second.__loader__)
    assert vars(first.__loader__).keys() == vars(second.__loader__).keys()
    assert inspect.getsource(first) == "value = 1\n"


def test_after_the_block_the_finder_is_gone(package: str) -> None:
    """The action of a module that is imported later is not called."""
    before = list(sys.meta_path)
    seen: list[ModuleType] = []
    with when_imported({f"{package}.first": seen.append, "no.such.module": seen.append}):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("no.such.module")
        assert len(sys.meta_path) == len(before) + 1
    assert sys.meta_path == before
    importlib.import_module(f"{package}.first")
    assert seen == []


def test_an_exception_of_an_action_is_logged(package: str, caplog: pytest.LogCaptureFixture) -> None:
    """A failing action does not disturb the import; a failing import raises its own exception."""

    def fail(module: ModuleType) -> None:
        raise KeyError(module.__name__)

    with (
        caplog.at_level(logging.WARNING),
        when_imported(dict.fromkeys([f"{package}.first", f"{package}.broken"], fail)),
    ):
        assert importlib.import_module(f"{package}.first").value == 1
        with pytest.raises(LookupError, match="broken"):
            importlib.import_module(f"{package}.broken")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{package}.first is not observed: KeyError")


def test_actions_of_nested_blocks_are_all_called(package: str) -> None:
    """Each of several blocks that wait for one module has its action called."""
    seen: list[str] = []
    name = f"{package}.first"
    with (
        when_imported({name: lambda _: seen.append("outer")}),
        when_imported({name: lambda _: seen.append("middle")}),
        when_imported({name: lambda _: seen.append("inner")}),
    ):
        importlib.import_module(name)
    assert seen == ["outer", "middle", "inner"]

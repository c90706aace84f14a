"""Actions on imported modules: in any order, once for each execution, and invisible."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import threading
import zipfile
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

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


def test_a_module_that_is_executed_again_has_its_action_called_again(package: str) -> None:
    """It was reloaded, or removed from `sys.modules` and imported again; a repeated import does not count."""
    seen: list[ModuleType] = []
    with when_imported({f"{package}.first": seen.append}):
        first = importlib.import_module(f"{package}.first")
        importlib.import_module(f"{package}.first")
        assert seen == [first]
        importlib.reload(first)
        assert seen == [first, first]
        del sys.modules[f"{package}.first"]
        again = importlib.import_module(f"{package}.first")
        assert again is not first
    assert seen == [first, first, again]


def test_a_module_that_another_finder_loaded(package: str) -> None:
    """The action is called with the next import, also if that fails."""
    seen: list[str] = []
    with when_imported({f"{package}.first": lambda module: seen.append(module.__name__)}):
        sys.meta_path.insert(0, PathFinder)
        try:
            importlib.import_module(f"{package}.first")
            assert seen == []
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module("no.such.module")
        finally:
            sys.meta_path.remove(PathFinder)
        assert seen == [f"{package}.first"]
        importlib.import_module(f"{package}.second")
    assert seen == [f"{package}.first"]


def test_a_module_that_is_loaded_after_the_block(package: str) -> None:
    """Its action is not called, even if it was found within the block."""
    seen: list[ModuleType] = []
    with when_imported({f"{package}.first": seen.append}):
        spec = find_spec(f"{package}.first")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module_from_spec(spec))
    assert seen == []


def test_threads_that_import_at_once(package: str) -> None:
    """The action is called once, before any of the threads has the module."""
    barrier, seen = threading.Barrier(8), list[ModuleType]()
    had: list[int] = []

    def import_it() -> None:
        barrier.wait(5)
        importlib.import_module(f"{package}.first")
        had.append(len(seen))

    with when_imported({f"{package}.first": seen.append}):
        threads = [threading.Thread(target=import_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert len(seen) == 1
    assert had == [1] * 8


SLOW = """
import sys
sys.modules["started"].set()
assert sys.modules["go"].wait(5)
"""


def test_a_module_that_another_thread_is_importing(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its action is called when the import is complete, never before."""
    (tmp_path / package / "slow.py").write_text(SLOW + "value = 1\n")
    started, go = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "started", started)
    monkeypatch.setitem(sys.modules, "go", go)
    importing = threading.Thread(target=importlib.import_module, args=(f"{package}.slow",))
    importing.start()
    assert started.wait(5)
    seen: list[Any] = []

    def observe() -> None:
        with when_imported({f"{package}.slow": lambda module: seen.append(module.value)}):
            pass

    observing = threading.Thread(target=observe)
    observing.start()
    assert seen == []
    go.set()
    importing.join(5)
    observing.join(5)
    assert seen == [1]


def test_a_module_that_this_thread_is_importing(package: str, tmp_path: Path) -> None:
    """Its action is called with the first import after it."""
    (tmp_path / package / "early.py").write_text("import sys\nsys.modules['observe']()\nvalue = 1\n")
    seen: list[Any] = []
    block = when_imported({f"{package}.early": lambda module: seen.append(module.value)})
    sys.modules["observe"] = block.__enter__  # type: ignore[assignment]
    try:
        importlib.import_module(f"{package}.early")
        importlib.import_module(f"{package}.first")
        assert seen == [1]
    finally:
        del sys.modules["observe"]
        block.__exit__(None, None, None)


def test_modules_of_a_zip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share a loader; each action is called with its own module."""
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        for name in ("one", "two", "three"):
            archive.writestr(f"zipped_{name}.py", "value = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "zipped.zip"), *sys.path])
    seen: list[str] = []

    def note(module: ModuleType) -> None:
        seen.append(module.__name__)

    with when_imported({"zipped_one": note, "zipped_two": note}):
        assert find_spec("zipped_two") is not None  # and it is not loaded
        for name in ("three", "one", "two"):
            importlib.import_module(f"zipped_{name}")
            monkeypatch.delitem(sys.modules, f"zipped_{name}")
    assert seen == ["zipped_one", "zipped_two"]

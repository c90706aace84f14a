"""Replacing an attribute of another library, and restoring it exactly."""

from __future__ import annotations

from typing import Any

from eventbus.integrations.replacement import Replacement


class _Parent:
    def inherited(self) -> str:
        return "inherited"


class _Child(_Parent):
    def own(self) -> str:
        return "own"

    @staticmethod
    def static() -> str:
        return "static"


def loud(method: Any, layer: Replacement) -> Any:
    def wrapper(*args: Any) -> str:
        result: str = method(*args)
        return result.upper() if layer.active else result

    return wrapper


def test_a_method_is_restored() -> None:
    """The class has the same objects as before, also for a static method."""
    before = dict(vars(_Child))
    layers = [Replacement(_Child, "own", loud)]
    assert _Child().own() == "OWN"
    layers.append(Replacement(_Child, "static", lambda method, layer: staticmethod(loud(method, layer))))
    assert _Child.static() == "STATIC"
    for layer in layers:
        layer.restore()
    assert dict(vars(_Child)) == before


def test_an_inherited_method_is_inherited_again() -> None:
    """An inherited method is not copied into the class."""
    layer = Replacement(_Child, "inherited", loud)
    assert (_Child().inherited(), _Parent().inherited()) == ("INHERITED", "inherited")
    layer.restore()
    assert "inherited" not in vars(_Child)
    assert _Child().inherited() == "inherited"


def test_a_later_patch_stays() -> None:
    """Our wrapper under it does nothing any more; restoring twice is harmless."""
    own = _Child.own
    layer = Replacement(_Child, "own", loud)
    ours = _Child.own

    def theirs(self: _Child) -> str:
        return f"<{ours(self)}>"

    _Child.own = theirs  # type: ignore[method-assign]
    try:
        assert _Child().own() == "<OWN>"
        assert not layer.in_place
        layer.restore()
        layer.restore()
        assert _Child.own is theirs
        assert _Child().own() == "<own>"
    finally:
        _Child.own = own  # type: ignore[method-assign]

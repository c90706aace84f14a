"""Replace an attribute of somebody else's module or class by a wrapper, and put it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Replacement"]

_MISSING: Any = object()


class Replacement:
    """One attribute, replaced by a wrapper of what it was, until it is restored.

    Others may replace the attribute, too. What they put over the wrapper stays when it is restored:
    it may still lead to the wrapper, which therefore asks `active` and, where that is False, does
    nothing but call what it wraps.

    Args:
        owner: A module or a class.
        name: The attribute's name.
        wrap: Makes the wrapper, of what is there and of this replacement.

    Attributes:
        active: Whether the wrapper is to do its work.
    """

    __slots__ = ("_before", "_name", "_owner", "_wrapper", "active")

    def __init__(self, owner: object, name: str, wrap: Callable[[Any, Replacement], Any]) -> None:
        self._owner = owner
        self._name = name
        self.active: bool = True
        # What the owner itself holds, if anything: a class may only inherit the attribute, and a
        # static method is not what looking it up gives.
        self._before: Any = vars(owner).get(name, _MISSING)
        self._wrapper: Any = wrap(getattr(owner, name), self)
        setattr(owner, name, self._wrapper)

    @property
    def in_place(self) -> bool:
        """Whether the attribute is the wrapper, not what others have put over it."""
        return vars(self._owner).get(self._name) is self._wrapper

    def restore(self) -> None:
        """End it. The attribute is what it was, unless others have replaced it since."""
        self.active = False
        if not self.in_place:
            return
        if self._before is _MISSING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)

"""Replace an attribute of another library's module or class by a wrapper, and restore it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Replacement"]

_MISSING: Any = object()


class Replacement:
    """One attribute, replaced by a wrapper of its value until `restore` is called.

    Later patches of the attribute stay and may still call our wrapper. The wrapper therefore checks
    `active`, and only calls the original if it is False.

    Args:
        owner: A module or a class.
        name: The attribute's name.
        wrap: Makes the wrapper from the original value and this replacement.

    Attributes:
        owner: The module or class.
        active: False once `restore` has been called.
    """

    __slots__ = ("_before", "_name", "_wrapper", "active", "owner")

    def __init__(self, owner: object, name: str, wrap: Callable[[Any, Replacement], Any]) -> None:
        self.owner: object = owner
        self._name = name
        self.active: bool = True
        # From the owner's own dictionary: a class may only inherit the attribute, and looking up a
        # static method gives its function.
        self._before: Any = vars(owner).get(name, _MISSING)
        self._wrapper: Any = wrap(getattr(owner, name), self)
        setattr(owner, name, self._wrapper)

    @property
    def in_place(self) -> bool:
        """True if the attribute is our wrapper, not a later patch."""
        return vars(self.owner).get(self._name) is self._wrapper

    def restore(self) -> None:
        """Deactivate the wrapper, and put the original back unless the attribute was patched later."""
        self.active = False
        if not self.in_place:
            return
        if self._before is _MISSING:
            delattr(self.owner, self._name)
        else:
            setattr(self.owner, self._name, self._before)

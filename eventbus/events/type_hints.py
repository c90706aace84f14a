"""Find out what an annotation stands for: its names are those of the place where it is written."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any, ForwardRef, cast, get_type_hints

__all__ = ["resolved"]


def resolved(annotation: object, owner: object, *, keep_extras: bool = False) -> object:
    """Return an annotation in which names in quotes are replaced by what they stand for.

    Args:
        annotation: It may be a text, as all are under ``from __future__ import annotations``.
        owner: The function, class or type variable whose annotation it is. Names are looked up in its
            module, its closure, its type parameters, and the functions around it that are running: a
            local class and its handler are usually defined in one.
        keep_extras: Whether what `Annotated` adds to a type is kept.

    Raises:
        Exception: Anything that evaluating it raises, such as a `NameError`.
    """

    def annotated() -> None: ...

    written = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    annotated.__annotations__ = {"it": written}
    module = _module_names(owner)
    names = _inner_names(owner, module)
    return cast("object", get_type_hints(annotated, dict(module), names, include_extras=keep_extras)["it"])


def _module_names(owner: Any) -> Mapping[str, Any]:
    names: Mapping[str, Any] | None = getattr(owner, "__globals__", None)
    return vars(sys.modules[owner.__module__]) if names is None else names


def _inner_names(owner: Any, module: Mapping[str, Any]) -> dict[str, object]:
    names = _names_around(getattr(owner, "__qualname__", ""), module)
    code, cells = getattr(owner, "__code__", None), getattr(owner, "__closure__", None)
    for name, cell in zip(code.co_freevars if code else (), cells or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return names | {each.__name__: each for each in getattr(owner, "__type_params__", ())}


def _names_around(qualname: str, module: Mapping[str, Any]) -> dict[str, object]:
    """Return the local names of the running functions in which something was defined; the inner ones win."""
    names: dict[str, object] = {}
    frame = inspect.currentframe() if "<locals>" in qualname else None
    while frame is not None:
        if frame.f_globals is module and qualname.startswith(f"{frame.f_code.co_qualname}.<locals>."):
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names

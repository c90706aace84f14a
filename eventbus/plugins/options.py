"""The options of a plugin: entries of its table in the settings become arguments of its `__init__`.

    class SlowNodes(Subscriber[NodeCompleted]):
        def __init__(self, limit_seconds: float = 10.0) -> None: ...

    [tool.eventbus.plugins.slow_nodes]
    limit_seconds = 2.5

A parameter called `settings` whose annotation is a `msgspec.Struct` takes the whole table instead:

    class SlowNodes(Subscriber[NodeCompleted]):
        def __init__(self, settings: SlowNodesSettings = SlowNodesSettings()) -> None: ...

Rejected: a class attribute that names a Struct, which says a second time what `__init__` says already, and
leaves the type checker without a connection between the two.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from types import NoneType
from typing import Any, TypeAlias, get_args

import msgspec

from eventbus.delivery.callables import function_of, signature_of
from eventbus.errors import SettingsError
from eventbus.events.printable import printable
from eventbus.events.type_hints import resolved
from eventbus.ground.option_entry import Option, as_path, leads_outside
from eventbus.ground.similar_names import did_you_mean
from eventbus.ground.warned_once import warn_once

__all__ = ["FROM_USER", "Options", "arguments_of", "missing_options"]

FROM_USER = msgspec.Meta(extra={"eventbus": "from user"})
"""Marks an option that a project's pyproject.toml must not set, such as the address of a server:
``address: Annotated[str, FROM_USER]``."""

_WHOLE = "settings"
_MAX_PROBLEM = 1_000
_LOGGER = "eventbus.settings"


Options: TypeAlias = Mapping[str, Option]


def arguments_of(target: Any, options: Options, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments to call a plugin with.

    An option that the plugin does not have is left out, with one warning: the settings may have been
    written for another version of it.

    Args:
        target: The class or function of the plugin.
        options: The options in its table.
        given: The arguments that eventbus itself gives; no option replaces them.

    Raises:
        SettingsError: The value of an option is wrong, or a project sets an option that is up to the user.
    """
    types = _types_of(target)
    whole = _struct_in(types.get(_WHOLE))
    if whole is not None:
        types = {field.name: field.type for field in msgspec.structs.fields(whole)}
    known = {name: option for name, option in options.items() if _is_known(name, option, types, given)}
    values = {name: _converted(option, types.get(name, Any)) for name, option in known.items()}
    if whole is None:
        return {**values, **given}
    is_needed = _parameters(target)[_WHOLE].default is inspect.Parameter.empty
    return {**given, **({_WHOLE: _made(whole, values)} if values or is_needed else {})}


def missing_options(target: Any, arguments: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters without a default that get no argument."""
    return [
        name
        for name, parameter in _parameters(target).items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in arguments
    ]


# What a plugin takes.


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    signature = signature_of(target)
    return {} if signature is None else signature.parameters


def _types_of(target: Any) -> dict[str, Any]:
    """Return the annotations of the parameters that can be given by name; of ``**options`` under "**"."""
    owner = function_of(inspect.getattr_static(target, "__init__") if isinstance(target, type) else target)
    types: dict[str, Any] = {}
    for name, parameter in _parameters(target).items():
        if parameter.kind is parameter.VAR_KEYWORD:
            types["**"] = Any
        elif parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            types[name] = _resolved(parameter.annotation, owner)
    return types


def _resolved(annotation: object, owner: object) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    try:
        return resolved(annotation, owner, keep_extras=True)
    except Exception:  # noqa: BLE001 - an annotation for type checkers only
        return Any


def _struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    """Return the Struct that an annotation stands for, also as one of a union with None."""
    kinds = (annotation, *get_args(annotation))
    return next((each for each in kinds if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


# One option.


def _is_known(name: str, option: Option, types: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    if name in given:
        reason = "eventbus itself gives it, by a setting in [tool.eventbus]"
    elif name in types or "**" in types:
        return True
    else:
        reason = f"there is no such option{did_you_mean(name, types.keys() - given.keys())}"
    warn_once(_LOGGER, printable(f"{option.place} is ignored: {reason}", _MAX_PROBLEM))
    return False


def _made(struct: type[msgspec.Struct], values: dict[str, Any]) -> msgspec.Struct:
    missing = [
        each.name for each in msgspec.structs.fields(struct) if each.required and each.name not in values
    ]
    if missing:
        raise SettingsError(f"it needs the option {', '.join(missing)}", "Set it in the table of the plugin")
    return struct(**values)


def _converted(option: Option, kind: Any) -> Any:
    if option.project is not None and FROM_USER in get_args(kind):
        raise SettingsError(
            f"{option.place}: a project must not set this option",
            "Set it in your own config.toml or in the environment",
        )
    try:
        return _convert(option, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{option.place}: {error}", "Correct it") from error


def _convert(option: Option, kind: Any) -> Any:
    convert = partial(msgspec.convert, dec_hook=partial(_as_project_path, option), strict=not option.is_text)
    value = option.value
    if option.is_text and value[:1] in ("[", "{"):
        value = _json(value)
    try:
        return convert(value, kind)
    except TypeError:  # msgspec does not know the type, or not in this union
        return _first_of(convert, value, kind)


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _first_of(convert: Any, value: Any, kind: Any) -> Any:
    """Convert to the first member of a union that msgspec knows and that fits."""
    members = [each for each in get_args(kind) if each is not NoneType] or [kind]
    for member in members:
        try:
            return convert(value, member)
        except (TypeError, msgspec.ValidationError):
            continue
    raise msgspec.ValidationError(f"Expected `{kind}`, got `{type(value).__name__}`")


def _as_project_path(option: Option, kind: type[Any], value: Any) -> Any:
    path = as_path(kind, value)
    if option.project is None:
        return path
    if leads_outside(option.project / path, option.project):
        problem = f"{option.place} leads outside of the project, to {option.project / path}"
        warn_once(_LOGGER, printable(problem, _MAX_PROBLEM))
    return option.project / path

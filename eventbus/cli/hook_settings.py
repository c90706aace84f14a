"""Put our hooks into the text of an agent's JSON settings, and take them out again. Pure: no I/O.

The text is cut and joined, not written anew: its other keys and hooks, their order, and their layout stay
as they are to the byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

__all__ = ["SettingsTextError", "hooks_of", "with_hooks", "without_hooks"]

_OURS = re.compile(r"""eventbus(?:\.exe)?['"]?\s+hook\s+claude-code\s*$""")
_SPACE = re.compile(r"[ \t\r\n]*")
_INDENT = re.compile(r'\n([ \t]+)"')
_TIMEOUT_SECONDS = 10
_decoder = json.JSONDecoder()


class SettingsTextError(ValueError):
    """The text is not what an agent's settings are."""


class _Item(NamedTuple):
    """A member of an object or an element of an array: where it is in the text."""

    key: str
    start: int
    value: int
    end: int


def hooks_of(events: Mapping[str, str], command: str) -> dict[str, Any]:
    """Return the settings with nothing but our hooks.

    Args:
        events: The events to hook, each with the tools it is wanted for.
        command: What they run.
    """
    return {"hooks": {event: [_group(matcher, command)] for event, matcher in events.items()}}


def with_hooks(text: str, events: Mapping[str, str], command: str) -> str:
    """Return settings with our hooks added where they are missing; arguments are as of `hooks_of`.

    Raises:
        SettingsTextError: The text is not a JSON object, or its hooks are not as an agent's are.
    """
    text = text if text.strip() else "{}\n"
    _check(text)
    for event, matcher in events.items():
        text = _with_hook(text, event, _group(matcher, command))
    return text


def without_hooks(text: str) -> str:
    """Return settings without our hooks, whatever event they are for, and without what is empty then.

    Raises:
        SettingsTextError: As of `with_hooks`.
    """
    if not text.strip():
        return text
    _check(text)
    while (shorter := _without_a_hook(text)) is not None:
        text = shorter
    return text


def _group(matcher: str, command: str) -> dict[str, Any]:
    hook = {"type": "command", "command": command, "timeout": _TIMEOUT_SECONDS}
    return {**({"matcher": matcher} if matcher else {}), "hooks": [hook]}


def _check(text: str) -> None:
    try:
        settings = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise SettingsTextError(str(error)) from error
    if not isinstance(settings, dict):
        raise SettingsTextError("it is not a JSON object")
    hooks: Any = {} if _get(settings, "hooks") is None else _get(settings, "hooks")
    if not isinstance(hooks, dict) or not all(isinstance(each, list) for each in hooks.values()):
        raise SettingsTextError('its "hooks" are not an object of arrays')


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # which of the two counts is not ours to decide
        raise SettingsTextError("an object in it has a key twice")
    return found


def _with_hook(text: str, event: str, group: dict[str, Any]) -> str:
    top = _after_space(text, 0)
    hooks = _member(text, top, "hooks")
    if hooks is None:
        return _insert(text, top, 0, f'"hooks": {_dumped(text, {event: [group]}, 1)}')
    groups = _member(text, hooks.value, event)
    if groups is None:
        return _insert(text, hooks.value, 1, f"{json.dumps(event)}: {_dumped(text, [group], 2)}")
    if any(map(_is_ours, _hooks_in(json.loads(text[groups.value : groups.end])))):
        return text
    return _insert(text, groups.value, 2, _dumped(text, group, 3))


def _without_a_hook(text: str) -> str | None:
    """Return settings without the first of our hooks; None if there is none."""
    path = next(_paths_to_ours(text), None)
    if path is None:
        return None
    # What would be empty without the hook goes with it, except for the whole.
    while len(path) > 1 and len(_items(text, path[-1][0])) == 1:
        path = path[:-1]
    return _without(text, *path[-1])


def _paths_to_ours(text: str) -> Iterator[list[tuple[int, _Item]]]:
    """Yield the way to each of our hooks: the items that contain it, each with where its container begins."""
    top = _after_space(text, 0)
    hooks = _member(text, top, "hooks")
    for event in _items(text, hooks.value) if hooks else ():
        for group in _items(text, event.value):
            inner = _member(text, group.value, "hooks") if text[group.value] == "{" else None
            for hook in _items(text, inner.value) if inner and text[inner.value] == "[" else ():
                if hooks and inner and _is_ours(json.loads(text[hook.value : hook.end])):
                    yield [(top, hooks), (hooks.value, event), (event.value, group), (inner.value, hook)]


def _without(text: str, container: int, item: _Item) -> str:
    items = _items(text, container)
    number = items.index(item)
    if number:
        return text[: items[number - 1].end] + text[item.end :]
    if len(items) > 1:
        return text[: item.start] + text[items[1].start :]
    return text[: container + 1] + text[_after_space(text, item.end) :]


def _insert(text: str, container: int, depth: int, item: str) -> str:
    """Insert an item at the end of an object or array at a depth."""
    newline = "\r\n" if "\r\n" in text else "\n"
    outer = newline + _indent(text) * depth
    inner = outer + _indent(text)
    item = item.replace("\n", newline)
    items = _items(text, container)
    if items:
        return f"{text[: items[-1].end]},{inner}{item}{text[items[-1].end :]}"
    end = _after_space(text, container + 1)
    return f"{text[: container + 1]}{inner}{item}{outer}{text[end:]}"


def _dumped(text: str, value: Any, depth: int) -> str:
    indent = _indent(text)
    return json.dumps(value, indent=indent, ensure_ascii=False).replace("\n", "\n" + indent * depth)


def _indent(text: str) -> str:
    match = _INDENT.search(text)
    return match[1] if match else "  "


def _member(text: str, start: int, key: str) -> _Item | None:
    return next((item for item in _items(text, start) if item.key == key), None)


def _items(text: str, start: int) -> list[_Item]:
    """Return the members of the object, or the elements of the array, that begins at `start`."""
    found: list[_Item] = []
    at = _after_space(text, start + 1)
    while text[at] not in "]}":
        begin, key = at, ""
        if text[start] == "{":
            key, at = _decoder.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)
        value = at
        _, end = _decoder.raw_decode(text, at)
        found.append(_Item(key, begin, value, end))
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _hooks_in(groups: Iterable[Any]) -> list[Any]:
    inner = [_get(group, "hooks") for group in groups]
    return [hook for hooks in inner if isinstance(hooks, list) for hook in hooks]


def _get(value: Any, key: str) -> Any:
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None


def _is_ours(hook: Any) -> bool:
    command = _get(hook, "command")
    return isinstance(command, str) and _OURS.search(command) is not None

"""Find the name that someone meant who typed another one."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'right_name'?`` for the nearest of the right names, and "" if none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

    by_form = {_form(each): each for each in names}
    near = get_close_matches(_form(name), by_form, n=1)
    return f"; did you mean {by_form[near[0]]!r}?" if near else ""


def _form(name: str) -> str:
    # Case and separators are the commonest mistake, and weigh as much as letters in difflib.
    return name.lower().replace("-", "_").replace(".", "_").replace(" ", "_")

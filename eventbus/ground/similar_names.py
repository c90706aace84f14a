"""Find the name that someone meant who typed another one."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["did_you_mean", "form_of", "nearest_name"]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'right_name'?`` for the nearest of the right names, and "" if none is near."""
    nearest = nearest_name(name, names)
    return f"; did you mean {nearest!r}?" if nearest else ""


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """Return the nearest of the right names, and None if none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

    # Case and separators are the commonest mistake, and weigh as much as letters in difflib.
    by_form = {form_of(each): each for each in names}
    near = get_close_matches(form_of(name), by_form, n=1)
    return by_form[near[0]] if near else None


def form_of(name: str) -> str:
    """Return a name in lower case, with an underscore for each separator, as in a variable's name."""
    return re.sub(r"\W", "_", name).lower()

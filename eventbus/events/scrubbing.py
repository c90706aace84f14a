"""Remove secrets and personal data from texts.

Recognised, and replaced:

- ``***``: private keys (PEM); tokens and keys whose issuer gave them a shape (`secret_shapes`); the
  text after ``Bearer``, ``Authorization:``, ``password=`` and similar; the user name and password in a
  URL; e-mail addresses; and texts that a mapping holds under such a name.
- ``~``: home directories, this user's and others'.

A secret without a shape, standing alone, is not recognised: it looks like the id of a session or a
commit, and those must survive.

Most texts hold none, and are known to be clean by the absence of a few literals. In the others each
pattern is tried where its literal stands, and nowhere else: a call of a pattern holds the
interpreter's lock for its whole length, which for 64 kB at every position would be 30 ms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

from eventbus.events.json_safe import safe_text
from eventbus.events.secret_shapes import (
    any_found,
    finders_of,
    matches,
    may_hold_token,
    places_of,
    token_matches,
)

__all__ = ["is_clean", "is_secret_name", "scrub", "scrub_value"]

_Span: TypeAlias = "tuple[int, int]"

_MARK = "***"
_SHORT = 128  # characters
_MAX_LENGTH = 65_536

_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
)
_KINDS_OF_KEY = ("api", "access", "private", "signing", "encryption", "account", "auth")
_PIVOTS = ("k", "w", "z", "cre", "sph")
"""Each of these names holds one of them."""
_KEY = rf"(?:{'|'.join(_KINDS_OF_KEY)})[_-]?key"
_SENSITIVE_WORD = rf"(?:{'|'.join(_WORDS)}|{_KEY})"
_FOLDED = {
    "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}": "i",
    "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    "\N{LATIN SMALL LETTER LONG S}": "s",
    "\N{KELVIN SIGN}": "k",
}
"""What `re.IGNORECASE` takes for an ASCII letter and `str.lower` does not, or not as one character."""

# All repetition is bounded, so that even for a hostile text the time is proportional to its length.
_VALUE = r"""(?:"[^"]{1,4096}"?|'[^']{1,4096}'?|[^\s"',;&]{1,4096})"""
_HOME_OF_ANY = r"/(?:home|Users)/[^\s/\\:;,\"'<>|]{1,64}|[A-Za-z]:\\{1,2}Users\\{1,2}[^\s/\\:;,\"'<>|]{1,64}"


def scrub(text: str) -> str:
    """Return a text without secrets, e-mail addresses and home directories.

    A text of more than 65,536 characters, the most an event may hold, is cut first, and marked.
    """
    if type(text) is not str or len(text) > _MAX_LENGTH:
        text = safe_text(text, _MAX_LENGTH)
    if "/" in text or "\\" in text:
        text = _without_homes(text)
    return _scrub_short(text) if len(text) <= _SHORT else _scrub(text)


def is_clean(text: str) -> bool:
    """Return True if `scrub` leaves a text as it is for certain; much faster than `scrub`.

    It may return False for a text that holds no secret: one that speaks of a ``token:``, say.
    """
    if len(text) > _MAX_LENGTH or (("/" in text or "\\" in text) and _may_hold_home(text)):
        return False
    return not ("@" in text or "earer" in text or "-----BEGIN" in text or _may_hold_name(text)) and not (
        may_hold_token(text)
    )


def scrub_value(value: Any) -> Any:
    """Return a copy of a JSON value with every text scrubbed, including the names in mappings."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value).items()
        return {scrub(name): _MARK if _hides(name, item) else scrub_value(item) for name, item in named}
    if isinstance(value, list):
        return [scrub_value(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _hides(name: str, value: Any) -> bool:
    """Return True if a value is a secret because of its name; a number of tokens is not."""
    return isinstance(value, str) and value != "" and is_secret_name(name[:_SHORT])


@lru_cache(maxsize=4_096)
def is_secret_name(name: str) -> bool:
    """Return True if the value kept under a name is a secret, as under ``api_key``."""
    return re.search(_SENSITIVE_WORD, name, re.IGNORECASE) is not None


def _scrub(text: str) -> str:
    if "-----BEGIN" in text:
        text = _marked(text, _private_keys(text))
    if "@" in text:
        text = _marked(text, _credentials(text))
        text = _marked(text, _addresses(text))
    if _may_hold_name(text):
        text = _marked(text, _authorizations(text))
        text = _marked(text, _assigned(text))
    if "earer" in text:
        text = _marked(text, _bearers(text))
    return _marked(text, map(_span, token_matches(text))) if may_hold_token(text) else text


_scrub_short = lru_cache(maxsize=4_096)(_scrub)
"""Cached, because names recur, of fields above all."""


def _marked(text: str, spans: Iterable[_Span], mark: str = _MARK) -> str:
    """Return a text with a mark in the place of each span."""
    parts: list[str] = []
    done = 0
    for start, end in spans:
        parts += (text[done:start], mark)
        done = end
    return "".join(parts) + text[done:]


def _private_keys(text: str) -> Iterator[_Span]:
    done = 0
    for place in places_of("-----BEGIN", text):
        begin = _patterns().key_begin.match(text, place) if place >= done else None
        if begin is not None:
            end = _patterns().key_end.search(text, begin.end())
            done = end.end() if end else len(text)
            yield place, done


def _credentials(text: str) -> Iterator[_Span]:
    places = ((place + 3, _patterns().credentials) for place in places_of("://", text))
    return map(_span, matches(text, places))


def _addresses(text: str) -> Iterator[_Span]:
    done = 0
    for place in places_of("@", text):
        before = text[max(done, place - 64) : place][::-1]
        name, domain = _patterns().mailbox.match(before), _patterns().domain.match(text, place + 1)
        if name and domain:
            done = domain.end()
            yield place - name.end(), done


def _authorizations(text: str) -> Iterator[_Span]:
    return _values(text, places_of("authorization", _folded(text)), _patterns().authorization)


def _bearers(text: str) -> Iterator[_Span]:
    starts = (place - 1 for place in places_of("earer", text) if place)
    return _values(text, starts, _patterns().bearer)


def _values(text: str, starts: Iterable[int], pattern: re.Pattern[str]) -> Iterator[_Span]:
    """Yield the spans of the values behind the names that are matched at these places."""
    return map(_span_of_value, matches(text, ((start, pattern) for start in starts)))


def _assigned(text: str) -> Iterator[_Span]:
    folded, patterns = _folded(text), _patterns()
    has_options = "--" in text
    done = 0
    for start in sorted(start for word in (*_WORDS, *_KINDS_OF_KEY) for start in places_of(word, folded)):
        if start < done:
            continue
        match = patterns.assigned.match(text, start)
        if (
            match is None
            and has_options
            and patterns.option_before.search(text, max(done, start - 43), start)
        ):
            match = patterns.option.match(text, start)
        if match is not None:
            done = match.end()
            yield _span_of_value(match)


def _span(match: re.Match[str]) -> _Span:
    return match.span()


def _span_of_value(match: re.Match[str]) -> _Span:
    """Return the span of what follows on group 1, the name."""
    return match.end(1), match.end()


def _may_hold_name(text: str) -> bool:
    """Return False if a text names no secret before a sign or in an option, for certain."""
    if not (":" in text or "=" in text or "--" in text):
        return False
    return any_found(_patterns().names, _folded(text))


def _folded(text: str) -> str:
    """Return a text in lower case, each character in its place."""
    if not text.isascii():
        for letter, folded in _FOLDED.items():
            text = text.replace(letter, folded)
    return text.lower()


def _without_homes(text: str) -> str:
    return _marked(text, _homes(text), "~") if _may_hold_home(text) else text


def _may_hold_home(text: str) -> bool:
    if "/home/" in text or ("U" in text and ("/Users/" in text or "Users\\" in text)):
        return True
    return any(map(text.__contains__, _own_home()))


def _homes(text: str) -> Iterator[_Span]:
    own = _own_home()
    pattern = _home_pattern(*own)
    starts = [start for place in ("/home/", "/Users/", *own) for start in places_of(place, text)]
    starts += [place - 1 for place in places_of(":\\", text) if place]  # the letter of a drive
    return map(_span, matches(text, ((start, pattern) for start in sorted(starts))))


@cache
def _own_home() -> tuple[str, ...]:
    """Return the user's home directory, if there is one; read once, as reading it costs 0.5 us."""
    own = os.environ.get("HOME", "").rstrip("/\\")
    return (own,) if own else ()


@lru_cache(maxsize=8)
def _home_pattern(*own: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.~-])(?:{'|'.join([*map(re.escape, own), _HOME_OF_ANY])})(?![\w-])")


class _Patterns(NamedTuple):
    """Each is matched at a place where its literal stands; group 1 of those with a value is its name."""

    key_begin: re.Pattern[str]
    key_end: re.Pattern[str]
    credentials: re.Pattern[str]
    mailbox: re.Pattern[str]
    domain: re.Pattern[str]
    authorization: re.Pattern[str]
    bearer: re.Pattern[str]
    assigned: re.Pattern[str]
    option: re.Pattern[str]
    option_before: re.Pattern[str]
    names: dict[str, re.Pattern[str]]


@cache
def _patterns() -> _Patterns:
    """Compile the patterns at first use: it takes 2 ms, 4 % of importing the package."""
    names = [*_WORDS, *(f"{kind}{sign}key" for kind in _KINDS_OF_KEY for sign in ("", "_", "-"))]
    return _Patterns(
        key_begin=re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"),
        key_end=re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY-----"),
        credentials=re.compile(r"[^\s/@\"'<>]{1,1024}(?=@)"),
        mailbox=re.compile(r"[\w.%+-]{1,64}"),
        domain=re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"),
        authorization=re.compile(
            rf"(\bauthorization[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?)(?:\w{{1,20}}\s{{1,3}})?{_VALUE}",
            re.IGNORECASE,
        ),
        bearer=re.compile(r"(\b[Bb]earer\s{1,3})[\w.~+/=-]{8,}"),
        assigned=re.compile(
            rf"({_SENSITIVE_WORD}[\w-]{{0,40}}[\"']?\s{{0,3}}(?:=>|[=:])\s{{0,3}}){_VALUE}", re.IGNORECASE
        ),
        option=re.compile(rf"({_SENSITIVE_WORD}\s{{1,3}}){_VALUE}", re.IGNORECASE),
        option_before=re.compile(r"(?<!-)--(?!-)[\w-]{0,40}\Z"),
        names=finders_of(_PIVOTS, names),
    )

"""Remove secrets and personal data from texts.

Recognised, and replaced:

- ``***``: private keys (PEM); tokens and keys whose issuer gave them a shape (AWS, GitHub, GitLab,
  Slack, Stripe, OpenAI, Anthropic, Google, SendGrid, npm, PyPI, Hugging Face, DigitalOcean, JSON Web
  Tokens); the text after ``Bearer``, ``Authorization:``, ``password=`` and similar; the user name and
  password in a URL; e-mail addresses; and texts that a mapping holds under such a name.
- ``~``: home directories, this user's and others'.

A secret without a shape, standing alone, is not recognised: it looks like the id of a session or a
commit, and those must survive.
"""

from __future__ import annotations

import os
import re
from functools import cache, lru_cache
from typing import Any, cast

from eventbus.events.json_safe import safe_text

__all__ = ["is_secret_name", "scrub", "scrub_value"]

_MARK = "***"
_SHORT = 128  # characters
_MAX_LENGTH = 65_536

# All repetition is bounded, so that even for a hostile text the time is proportional to its length.
_TOKENS = "|".join(
    [
        r"A(?:KIA|SIA|BIA|CCA)[0-9A-Z]{16,}",
        r"gh[opsur]_\w{20,255}",
        r"github_pat_\w{20,255}",
        r"glpat-[\w-]{20,}",
        r"xox[abeoprs]-[\w-]{10,}",
        r"xapp-[\w-]{10,}",
        r"sk-[\w-]{16,}",
        r"(?:sk|rk|pk)_(?:live|test)_\w{16,}",
        r"whsec_\w{16,}",
        r"AIza[\w-]{30,}",
        r"ya29\.[\w-]{20,}",
        r"SG\.[\w-]{16,}\.[\w-]{16,}",
        r"npm_\w{30,}",
        r"pypi-[\w-]{40,}",
        r"hf_\w{30,}",
        r"do[opr]_v1_\w{40,}",
        r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
    ]
)
_SENSITIVE_WORD = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|authorization|cookie"
    r"|(?:api|access|private|signing|encryption|account|auth)[_-]?key)"
)
_VALUE = r"""(?:"[^"]{1,4096}"?|'[^']{1,4096}'?|[^\s"',;&]{1,4096})"""

_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@\"'<>]{1,1024}@")
_EMAIL = re.compile(r"[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_ANY_HOME = r"/(?:home|Users)/[^\s/\\:;,\"'<>|]{1,64}|[A-Za-z]:\\{1,2}Users\\{1,2}[^\s/\\:;,\"'<>|]{1,64}"


def scrub(text: str) -> str:
    """Return a text without secrets, e-mail addresses and home directories.

    A text of more than 65,536 characters, the most an event may hold, is cut first, and marked.
    """
    if type(text) is not str or len(text) > _MAX_LENGTH:
        text = safe_text(text, _MAX_LENGTH)
    if "/" in text or "\\" in text:
        text = _homes(os.environ.get("HOME", "")).sub("~", text)
    return _scrub_short(text) if len(text) <= _SHORT else _scrub(text)


def _scrub(text: str) -> str:
    if "-----BEGIN" in text:
        text = _PEM.sub(_MARK, text)
    if "@" in text:
        text = _EMAIL.sub(_MARK, _CREDENTIALS.sub(f"{_MARK}@", text))
    authorization, assigned, token = _patterns()
    text = authorization.sub(_keep_name, text)
    text = assigned.sub(_keep_name, text)
    return token.sub(_MARK, text)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Compile the large patterns at first use: it takes 2 ms, 4 % of importing the package."""
    authorization = re.compile(
        rf"(?i:(\b(?:proxy-)?authorization[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?)(?:\w{{1,20}}\s{{1,3}})?{_VALUE})"
        r"|(\b[Bb]earer\s{1,3})[\w.~+/=-]{8,}"
    )
    assigned = re.compile(
        rf"({_SENSITIVE_WORD}[\w-]{{0,40}}[\"']?\s{{0,3}}(?:=>|[=:])\s{{0,3}}"
        rf"|(?<!-)--(?!-)[\w-]{{0,40}}{_SENSITIVE_WORD}\s{{1,3}}){_VALUE}",
        re.IGNORECASE,
    )
    return authorization, assigned, re.compile(rf"(?<![^\W_])(?:{_TOKENS})", re.ASCII)


_scrub_short = lru_cache(maxsize=4_096)(_scrub)
"""Cached, because names recur, of fields above all."""


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


def _keep_name(match: re.Match[str]) -> str:
    return f"{match[1] or match[match.lastindex or 1]}{_MARK}"


@lru_cache(maxsize=8)
def _homes(home: str) -> re.Pattern[str]:
    own = home.rstrip("/\\")
    places = f"{re.escape(own)}|{_ANY_HOME}" if own else _ANY_HOME
    return re.compile(rf"(?<![\w.~-])(?:{places})(?![\w-])")

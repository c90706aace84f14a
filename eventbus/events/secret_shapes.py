"""How the keys and tokens look whose issuer gave them a shape.

Each shape has a literal that it cannot be without. So a text is first asked for the literals, which
costs a few nanoseconds a character, and a shape is tried only where its literal stands. One large
alternation, tried at each position, would take ten times as long.
"""

from __future__ import annotations

import heapq
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["any_found", "finders_of", "matches", "may_hold_token", "places_of", "token_matches"]

_MODES = ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "pk_test_")
_SHAPES = {
    # Clouds.
    **dict.fromkeys(["AKIA", "ASIA", "ABIA", "ACCA"], r"[0-9A-Z]{16,}"),  # AWS
    "AIza": r"[\w-]{30,}",  # Google
    "GOCSPX-": r"[\w-]{20,}",
    "ya29.": r"[\w-]{20,}",
    "LTAI": r"[0-9A-Za-z]{17,}",  # Alibaba
    **dict.fromkeys(["dop_v1_", "doo_v1_", "dor_v1_"], r"\w{40,}"),  # DigitalOcean
    "dapi": r"[0-9a-f]{32}",  # Databricks
    **dict.fromkeys(["hvs.", "hvb.", "hvr."], r"[\w-]{24,}"),  # HashiCorp Vault
    **dict.fromkeys(["pscale_tkn_", "pscale_oauth_", "pscale_pw_"], r"[\w.-]{32,}"),  # PlanetScale
    "sbp_": r"[0-9a-f]{40,}",  # Supabase
    "nfp_": r"\w{36,}",  # Netlify
    "HRKU-": r"[\w-]{36,}",  # Heroku
    **dict.fromkeys(["dp.pt.", "dp.st.", "dp.ct.", "dp.sa."], r"[\w.-]{40,}"),  # Doppler
    # Source code and packages.
    **dict.fromkeys(["ghp_", "gho_", "ghs_", "ghu_", "ghr_"], r"\w{20,255}"),  # GitHub
    "github_pat_": r"\w{20,255}",
    **dict.fromkeys(["glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glsoat-"], r"[\w-]{20,}"),  # GitLab
    **dict.fromkeys(["ATATT3", "ATCTT3"], r"[\w=-]{60,}"),  # Atlassian
    "npm_": r"\w{30,}",
    "pypi-": r"[\w-]{40,}",
    "rubygems_": r"[0-9a-f]{48,}",
    "dckr_pat_": r"[\w-]{24,}",  # Docker
    "AKCp": r"[0-9A-Za-z]{10,}",  # Artifactory
    "cmVmdGtuOj": r"[0-9A-Za-z]{40,}",
    "lin_api_": r"\w{32,}",  # Linear
    # Models.
    "sk-": r"[\w-]{16,}",  # OpenAI, Anthropic and others
    "hf_": r"\w{30,}",  # Hugging Face
    "gsk_": r"\w{40,}",  # Groq
    "xai-": r"\w{40,}",
    "r8_": r"\w{32,}",  # Replicate
    "pplx-": r"\w{40,}",  # Perplexity
    **dict.fromkeys(["lsv2_pt_", "lsv2_sk_"], r"\w{32,}"),  # LangSmith
    # Messages and mail.
    **dict.fromkeys([f"xox{kind}-" for kind in "abeoprs"], r"[\w-]{10,}"),  # Slack
    "xapp-": r"[\w-]{10,}",
    "hooks.slack.com/": r"(?:services|workflows|triggers)/[\w+/-]{20,}",
    **dict.fromkeys(
        ["discord.com/api/webhooks/", "discordapp.com/api/webhooks/"], r"\d{15,}/[\w-]{30,}"
    ),  # Discord
    "SG.": r"[\w-]{16,}\.[\w-]{16,}",  # SendGrid
    "SK": r"[0-9a-f]{32}(?!\w)",  # Twilio
    "key-": r"[0-9a-f]{32}(?!\w)",  # Mailgun
    "xkeysib-": r"[0-9a-f]{32,}[\w-]*",  # Brevo
    # Payments and shops.
    **dict.fromkeys(_MODES, r"\w{16,}"),  # Stripe
    "whsec_": r"[\w+/=]{16,}",
    "sq0atp-": r"[\w-]{22,}",  # Square
    "sq0csp-": r"[\w-]{43,}",
    "EAAA": r"[\w-]{56,}",
    **dict.fromkeys(["shpat_", "shpca_", "shppa_", "shpss_"], r"[0-9a-fA-F]{32,}"),  # Shopify
    # Watching and planning.
    "glsa_": r"\w{32,}",  # Grafana
    "glc_": r"[\w+/=]{32,}",
    "sntrys_": r"[\w+/=-]{40,}",  # Sentry
    "sntryu_": r"[0-9a-f]{40,}",
    "NRAK-": r"[0-9A-Z]{27,}",  # New Relic
    "PMAK-": r"[0-9a-f]{24}-[0-9a-f]{34}",  # Postman
    "ntn_": r"[0-9A-Za-z]{40,}",  # Notion
    "pul-": r"[0-9a-f]{40,}",  # Pulumi
    # Of more than one issuer.
    "AGE-SECRET-KEY-": r"1[0-9A-Za-z]{40,}",
    "eyJ": r"[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",  # JSON Web Token
}
"""What follows on a literal with which a token begins."""

_INNER = {
    "Q~": (r"[\w~.-]{3}\dQ~[\w~.-]{31,34}", (4,)),  # Azure
    ":AA": (r"\d{8,10}:AA[\w-]{32,}", (10, 9, 8)),  # Telegram
}
"""Tokens around a literal, and how many characters may stand before it, the most first."""

_INNER_UNNAMED = {
    ".": (r"[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}", (26, 25, 24), r"[\w-]{6}\.[\w-]{27}"),  # Discord
    "-us": (r"[0-9a-f]{32}-us\d{1,2}(?!\w)", (32,), r"us(?<=[0-9a-f]-us)\d"),  # Mailchimp
}
"""The same for a literal that is too common to look for alone, and what is looked for behind its pivot."""

_REST = r"[\w+/=.~-]{10}"
"""What follows on the pivot of each literal, at least, and on the first sign of Discord's."""
_PIVOTS = ("_", "-", ".", "A", "J", "V", "K", "~", "dapi")
"""Each literal holds one of these."""
_PIECE = 4_096  # characters: at the worst, where each is a pivot, a search of them takes a millisecond
_OVERLAP = 64  # more than a finder looks at behind its pivot


class _Token(NamedTuple):
    """The shape of a token.

    Attributes:
        pattern: The shape.
        before: How far before its literal it may begin.
        behind: What follows on the first sign of a literal that is too common to try each.
    """

    pattern: re.Pattern[str]
    before: tuple[int, ...]
    behind: re.Pattern[str] | None = None


class _Shapes(NamedTuple):
    """All shapes, compiled.

    Attributes:
        tokens: The one around each literal.
        finders: What find the literals around each pivot.
    """

    tokens: dict[str, _Token]
    finders: dict[str, re.Pattern[str]]


def may_hold_token(text: str) -> bool:
    """Return False if a text holds no token for certain; much faster than `token_matches`."""
    return any_found(_shapes().finders, text)


def any_found(finders: Mapping[str, re.Pattern[str]], text: str) -> bool:
    """Return True if any of the finders, each under its pivot, finds something in a text.

    A text is searched in pieces: a call of a pattern keeps the interpreter's lock for its whole length.
    """
    for pivot, finder in finders.items():
        # For one character `in` is much faster than a pattern, and for more it is slower.
        if len(pivot) > 1 or pivot in text:
            for start in range(0, len(text), _PIECE):
                if finder.search(text, start, start + _PIECE + _OVERLAP):
                    return True
    return False


def token_matches(text: str) -> Iterator[re.Match[str]]:
    """Yield the matches of the tokens in a text, in order; they do not overlap."""
    places = [
        _beginnings(literal, before, token, text)
        for literal, token in _shapes().tokens.items()
        if literal in text
        for before in token.before
    ]
    # Not sorted: of 60,000 places that takes 20 ms in one call, during which no other thread runs.
    in_order = heapq.merge(*places, key=itemgetter(0, 1))
    return matches(text, ((place, pattern) for place, _, pattern in in_order))


def _beginnings(
    literal: str, before: int, token: _Token, text: str
) -> Iterator[tuple[int, int, re.Pattern[str]]]:
    """Yield where a token may begin this far before its literal, in order."""
    for place in places_of(literal, text):
        if place >= before and (token.behind is None or token.behind.match(text, place + 1)):
            yield place - before, -before, token.pattern


def matches(text: str, places: Iterable[tuple[int, re.Pattern[str]]]) -> Iterator[re.Match[str]]:
    """Yield the matches of patterns at ordered places, except those that overlap an earlier one."""
    done = 0
    for place, pattern in places:
        match = pattern.match(text, place) if place >= done else None
        if match is not None:
            done = match.end()
            yield match


def places_of(literal: str, text: str) -> Iterator[int]:
    """Yield where a literal stands in a text."""
    place = text.find(literal)
    while place >= 0:
        yield place
        place = text.find(literal, place + 1)


def finders_of(
    pivots: Iterable[str],
    literals: Iterable[str],
    followed_by: Mapping[str, str] = MappingProxyType({}),
    others: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, re.Pattern[str]]:
    """Return what finds the literals around each pivot; a literal belongs to the first that it contains.

    Each pattern begins with its pivot, which `re` looks for as fast as `str.find`, and looks around
    from there. Asking for each of many literals would read the text as many times.

    Args:
        pivots: Texts that are rare in other texts.
        literals: What to find.
        followed_by: A pattern for what follows in any case behind a pivot, by pivots.
        others: A pattern to find as well behind a pivot, by pivots.
    """
    around: dict[str, list[str]] = {pivot: [] for pivot in pivots}
    for literal in literals:
        around[next(pivot for pivot in around if pivot in literal)].append(literal)
    return {
        pivot: re.compile(
            # What follows on the pivot is asked for first: that is one comparison for many literals.
            f"{re.escape(pivot)}{_ahead(followed_by.get(pivot))}(?:{'|'.join(_found(pivot, some, others))})",
            re.ASCII,
        )
        for pivot, some in around.items()
    }


def _ahead(pattern: str | None) -> str:
    return f"(?={pattern})" if pattern else ""


def _found(pivot: str, literals: Iterable[str], others: Mapping[str, str]) -> Iterator[str]:
    """Yield patterns for what is found behind a pivot, each rest of a literal once."""
    by_rest: defaultdict[str, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for literal in literals:
        by_rest[literal.partition(pivot)[2]][len(literal)].add(re.escape(literal))
    for rest, by_length in by_rest.items():  # of one length are those that one look behind may ask for
        before = "|".join(f"(?<={'|'.join(sorted(some))})" for some in by_length.values())
        yield f"{re.escape(rest)}(?:{before})"
    if pivot in others:
        yield others[pivot]


@cache
def _shapes() -> _Shapes:
    """Compile the shapes, at first use: it takes longer than a tenth of importing the package."""
    tokens = {literal: _token(re.escape(literal) + rest, (0,)) for literal, rest in _SHAPES.items()}
    tokens |= {literal: _token(pattern, before) for literal, (pattern, before) in _INNER.items()}
    tokens |= {sign: _token(*shape) for sign, shape in _INNER_UNNAMED.items()}
    behind = {sign[0]: pattern for sign, (_, _, pattern) in _INNER_UNNAMED.items()}
    rests = {pivot: f"{_REST}|{behind[pivot]}" if pivot == "-" else _REST for pivot in _PIVOTS}
    return _Shapes(tokens, finders_of(_PIVOTS, (*_SHAPES, *_INNER), rests, behind))


def _token(pattern: str, before: tuple[int, ...], behind: str = "") -> _Token:
    # Not inside a longer word: the hexadecimal digits of an id may contain the beginning of a token.
    shape = re.compile(rf"(?<![^\W_])(?:{pattern})", re.ASCII)
    return _Token(shape, before, re.compile(behind, re.ASCII) if behind else None)

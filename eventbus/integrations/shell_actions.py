"""Find known actions, such as ``git commit``, in a shell command, and nothing else of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator

__all__ = ["actions_in"]

_MAX_COMMAND = 64 * 1024
_MAX_ACTIONS = 16
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
# Words before a command that run it.
_PREFIXES = frozenset(
    {"!", "command", "do", "else", "env", "exec", "if", "nohup", "sudo", "then", "time", "while"}
)
_RUNNERS = frozenset({("uv", "run"), ("poetry", "run"), ("python", "-m"), ("python3", "-m")})


def actions_in(command: str, allowed: Collection[str]) -> tuple[str, ...]:
    """Return the allowed actions with which the commands in a shell text begin, in order.

    Args:
        command: What a shell is to run.
        allowed: Actions of one word or several, such as ``crackerjack`` or ``git commit``. Of two that fit,
            the longer one counts.
    """
    longest_first = sorted((tuple(action.split()) for action in allowed), key=len, reverse=True)
    # Most commands contain none of the words: then nothing is parsed.
    if not any(all(word in command for word in action) for action in longest_first if action):
        return ()
    found: list[str] = []
    for words in _commands(command[:_MAX_COMMAND]):
        action = next((each for each in longest_first if each and words[: len(each)] == each), None)
        if action is not None:
            found.append(" ".join(action))
    return tuple(found[:_MAX_ACTIONS])


def _commands(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each simple command, up to a here-document, whose text is no command."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        for token in lexer:
            if token.startswith("<<"):
                break
            if set(token) <= set("();|&\n"):
                yield _without_prefixes(words)
                words = []
            else:
                words.append(token)
    except ValueError:  # a quote that is not closed: what is behind it is a text
        pass
    yield _without_prefixes(words)


def _without_prefixes(words: list[str]) -> tuple[str, ...]:
    while words:
        if words[0] in _PREFIXES or _ASSIGNMENT.match(words[0]):
            words = words[1:]
        elif tuple(words[:2]) in _RUNNERS:
            words = words[2:]
        else:
            break
    # A path to a program is its name: `/usr/bin/git commit`.
    return (words[0].rpartition("/")[2], *words[1:]) if words else ()

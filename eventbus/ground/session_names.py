r"""Session ids outside Python: as bytes in an environment, and as text in logs, JSON and reports.

In Python, a session id is a `str` in which an undecodable byte is a lone surrogate, as in file names
(PEP 383). The bytes of a name are read as UTF-8 in every locale, so one name is one session.

Logs and JSON cannot contain a lone surrogate. There it is spelled as an escape such as ``\udce9``, and so
that no other name is spelled like it, a backslash before a ``u`` is spelled ``\u005c``. All other names
are spelled as they are. Rejected: question marks and plain escapes, with which different names become
one; a spelling that is used in memory as well, because it would be spelled again with each event that
gets its id from another one.
"""

from __future__ import annotations

import os
import re

__all__ = ["may_be_spelled", "name_of_argument", "name_of_bytes", "name_to_bytes", "spell", "unspell"]

_BACKSLASH = ord("\\")
_to_escape = re.compile(r"[\ud800-\udfff]|\\(?=u)")
_escape = re.compile(r"\\u(d[89a-f][0-9a-f]{2}|005c)")


def spell(session_id: str) -> str:
    r"""Return a session id as text that can be stored and shown.

    Different ids have different spellings. The spelling of a beginning of an id is a beginning of the
    id's spelling.
    """
    if session_id.isascii() and "\\" not in session_id:
        return session_id
    return _to_escape.sub(_escaped, session_id)


def unspell(text: str) -> str:
    """Return the session id that `spell` made this text of."""
    return _escape.sub(_unescaped, text) if "\\u" in text else text


def may_be_spelled(line: bytes) -> bool:
    """Return False if no text in some JSON differs from the session id that it spells."""
    return _BACKSLASH in line and b"\\\\u" in line  # one character is found ten times as fast as three


def name_of_bytes(name: bytes) -> str:
    """Return the session id that these bytes name, in every locale."""
    return name.decode("utf-8", "surrogateescape")


def name_of_argument(argument: str) -> str:
    """Return the session id that an argument of the command line names, in every locale."""
    try:
        return name_of_bytes(os.fsencode(argument)) if os.supports_bytes_environ else argument
    except UnicodeEncodeError:  # not from a command line, where each argument has bytes
        return argument


def name_to_bytes(session_id: str) -> bytes:
    """Return the bytes that name a session in an environment."""
    try:
        return session_id.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: no bytes name this session
        return session_id.encode("utf-8", "surrogatepass")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))

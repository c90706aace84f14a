"""``eventbus completion``: print the script with which a shell completes the words of the program.

The scripts are the same for ever: what can be typed is found by the program itself, at each press of the
tab key (`completion_words`).
"""

from __future__ import annotations

from typing import Annotated

from eventbus.cli.arguments import Argument
from eventbus.cli.completion_words import SHELLS
from eventbus.cli.exit_codes import OK, USAGE, CommandError

__all__ = ["completion"]

_BASH = """\
_eventbus() {
    local IFS=$'\\n'
    COMPREPLY=($("$1" completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _eventbus eventbus
"""
_ZSH = """\
#compdef eventbus
_eventbus() {
    local -a found
    found=("${(@f)$("${words[1]}" completion words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[*]}" ]]; then compadd -a found; else _files; fi
}
if [[ "${funcstack[1]}" = _eventbus ]]; then _eventbus "$@"; else compdef _eventbus eventbus; fi
"""
_FISH = """\
complete -c eventbus -a '(
    set -l words (commandline -opc) (commandline -ct)
    $words[1] completion words $words[2..-1] 2>/dev/null
)'
"""
_SCRIPTS: dict[str, str] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(shell: Annotated[str, Argument(metavar="|".join(SHELLS), help="The shell.")]) -> int:
    """Print the script with which a shell completes the words of eventbus.

    Put it where the shell reads it at its start: in ~/.bashrc or ~/.zshrc eval "$(eventbus completion bash)",
    or zsh, and for fish: eventbus completion fish > ~/.config/fish/completions/eventbus.fish
    """
    if shell not in _SCRIPTS:
        shells = ", ".join(SHELLS)
        raise CommandError(f"there is no completion for {shell!r}", f"name one of {shells}", USAGE)
    print(_SCRIPTS[shell], end="")
    return OK

"""`frugalseg completion`: scripts for shells, made from the table of commands.

Words come from the script itself, so that pressing Tab does not start Python.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from frugalseg.commands.help import remove_none
from frugalseg.commands.switches import FIELDS, PLUGIN
from frugalseg.commands.table import COMMANDS, Command, to_flag
from frugalseg.options import CompletionOptions

SWITCHES = ("--help", "--config", PLUGIN, *FIELDS)

BASH = """\
_frugalseg() {
    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="" found=""
    (( COMP_CWORD > 1 )) && command="${COMP_WORDS[1]}"
    (( COMP_CWORD > 2 )) && [[ -n "$(_frugalseg_list "options:$command ${COMP_WORDS[2]}")" ]] &&
        command="$command ${COMP_WORDS[2]}"
    (( COMP_CWORD < 3 )) && found="$(_frugalseg_list "words:$command")"
    if [[ -n "$(_frugalseg_list "values:$command $before")" ]]; then
        found="$(_frugalseg_list "values:$command $before")"
    elif [[ "$current" == -* || ( -z "$found" && "$before" != -* ) ]]; then
        found="$(_frugalseg_list "options:$command")"
    fi
    COMPREPLY=($(compgen -W "$found" -- "$current"))
}
complete -o default -F _frugalseg frugalseg
"""
"""Without a word that fits, the shell completes names of files."""


def completion(options: CompletionOptions) -> str:
    """Print and return the script for a shell."""
    script = SCRIPTS[options.shell]()
    print(script, end="")
    return script


def format_bash() -> str:
    """The script for bash."""
    cases = "\n".join(
        f"        {shlex.quote(key)}) echo {shlex.quote(' '.join(words))} ;;" for key, words in _list_words()
    )
    return f'_frugalseg_list() {{\n    case "$1" in\n{cases}\n    esac\n}}\n\n{BASH}'


def format_zsh() -> str:
    """The script for zsh, which understands that of bash."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{format_bash()}"


def _list_words() -> Iterator[tuple[str, list[str]]]:
    """Words after `frugalseg`, options of each command, values of each option."""
    tops = list(dict.fromkeys(name.split()[0] for name in COMMANDS))
    yield "words:", tops
    for top in tops:
        if seconds := [name.split()[1] for name in COMMANDS if name.startswith(f"{top} ")]:
            yield f"words:{top}", seconds
    for name, command in COMMANDS.items():
        yield f"options:{name}", [*(to_flag(field.name) for field in fields(command.options)), *SWITCHES]
        for flag, values in _list_values(command):
            yield f"values:{name} {flag}", values


def _list_values(command: Command) -> Iterator[tuple[str, list[str]]]:
    """Flag → the values it may have, of options with a choice."""
    for option, kind in get_type_hints(command.options).items():
        plain = remove_none(kind)
        if get_origin(plain) is Literal:
            yield to_flag(option), [str(one) for one in get_args(plain)]
        elif plain is bool:
            yield to_flag(option), ["true", "false"]


def format_fish() -> str:
    """The script for fish, with the summary of each command."""
    lines = ["complete -c frugalseg -n __fish_use_subcommand -f"]
    for name, command in COMMANDS.items():
        first, _, second = name.partition(" ")
        seen = f"__fish_seen_subcommand_from {first}"
        if not second:
            lines.append(_format_fish("__fish_use_subcommand", "-a", first, "-d", command.summary))
        else:
            if first not in COMMANDS:
                lines.append(_format_fish("__fish_use_subcommand", "-a", first))
            lines.append(_format_fish(seen, "-f", "-a", second, "-d", command.summary))
            seen += f"; and __fish_seen_subcommand_from {second}"
        values = dict(_list_values(command))
        for flag in [*(to_flag(field.name) for field in fields(command.options)), *SWITCHES]:
            given = ["-x", "-a", " ".join(values[flag])] if flag in values else []
            lines.append(_format_fish(seen, "-l", flag[2:], *given))
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _format_fish(condition: str, *words: Any) -> str:
    return shlex.join(["complete", "-c", "frugalseg", "-n", condition, *words])


SCRIPTS: dict[str, Callable[[], str]] = {"bash": format_bash, "zsh": format_zsh, "fish": format_fish}

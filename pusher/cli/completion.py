"""Implement ``pusher completion``: print completion scripts for shells."""

from __future__ import annotations

import os
from typing import Any, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from pusher.cli.command import Command
from pusher.errors import ExitCode

_VARIABLE: Final = "_PUSHER_COMPLETE"
"""As click makes it of the program's name."""

_BASH: Final = """\
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} word before="" kind value
    # bash cuts words at colons, which image names have: what is before the last one is typed already
    word=${line##*[[:space:]]}
    [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && before=${word%%"${word##*:}"}
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            plain) COMPREPLY+=("${value#"$before"}") ;;
            file) compopt -o default 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
        esac
    done < <(COMP_WORDS=$line %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -F %(complete_func)s %(prog_name)s
"""

_POWERSHELL: Final = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $command, $cursor)
    $words = @($command.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object {
        if ($_ -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $_.Value }
        else { $_.Extent.Text }
    })
    $env:COMP_WORDS = ($words + $word) -join "`n"
    $env:%(complete_var)s = 'powershell_complete'
    try { $answer = @(& %(prog_name)s 2>$null) }
    finally { Remove-Item Env:COMP_WORDS, Env:%(complete_var)s -ErrorAction SilentlyContinue }
    # nothing printed: PowerShell offers files
    $answer | Where-Object { $_ } | ForEach-Object {
        $value, $help = $_ -split "`t", 2
        if (-not $help) { $help = $value }
        $text = if ($value -match '[\\s,;''"]') { "'" + $value.Replace("'", "''") + "'" } else { $value }
        [System.Management.Automation.CompletionResult]::new($text, $value, 'ParameterValue', $help)
    }
}
"""


class Bash(BashComplete):
    """Completion for bash, with colons in words; click's own script loses them."""

    source_template = _BASH

    def source(self) -> str:
        return ShellComplete.source(self)  # without checking the version of bash on this machine

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_WORDS", "")
        words = split_arg_string(line)[1:]
        return (words, "") if not words or line[-1:].isspace() else (words[:-1], words[-1])


class PowerShell(ShellComplete):
    """Windows PowerShell 5.1 and PowerShell 7; click has one from 8.5 on, which splits Windows paths."""

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words and the incomplete last one; the variable has one per line."""
        *words, incomplete = os.environ.get("COMP_WORDS", "").split("\n")
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        if item.type != "plain":
            return ""
        return f"{item.value}\t{' '.join((item.help or '').split())}"


_SHELLS: Final[dict[str, type[ShellComplete]]] = {
    shell.name: shell for shell in (Bash, ZshComplete, FishComplete, PowerShell)
}
for _shell in _SHELLS.values():
    add_completion_class(_shell)


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print a script that makes TAB complete in a shell.

    It completes commands, options and their values, job IDs, and the names of images in Docker or Podman.

    \b
    Example:
      pusher completion bash

    \b
    To install it, once; then open a new shell:
      bash        echo 'eval "$(pusher completion bash)"' >> ~/.bashrc
      zsh         echo 'eval "$(pusher completion zsh)"' >> ~/.zshrc
      fish        pusher completion fish > ~/.config/fish/completions/pusher.fish
      powershell  'pusher completion powershell | Out-String | iex' >> $PROFILE
    """
    program = context.find_root().command
    click.echo(_SHELLS[shell](program, {}, "pusher", _VARIABLE).source(), nl=False)
    return ExitCode.DONE

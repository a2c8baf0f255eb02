"""Implement ``pusher help``: show topics, and the help of commands."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Container, Mapping
from difflib import get_close_matches
from typing import Final, cast

import click

from pusher.cli.command import Command
from pusher.cli.groups import commands_of
from pusher.errors import CommandLineInvalid, ExitCode
from pusher.text import quoted

_WIDEST: Final = 100
"""Columns beyond which lines are tiring to read."""


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return topics and commands, or the subcommands if a group was typed already."""
    from pusher.help.topics import NAMES

    command = context.find_root().command
    names: tuple[str, ...] = NAMES
    for word in context.params.get(parameter.name or "") or ():
        if isinstance(command, click.Group):
            command = command.get_command(context, word) or command
        names = ()
    if isinstance(command, click.Group):
        names = (*names, *command.list_commands(context))
    return [name for name in names if name.startswith(incomplete)]


@click.command("help", cls=Command)
@click.argument("name", metavar="[TOPIC | COMMAND]", required=False, nargs=-1, shell_complete=_complete)
@click.option("--file", metavar="FILE", help="Print only this file of the topic, as it is to be used.")
@click.pass_context
def help_command(context: click.Context, name: tuple[str, ...], file: str | None) -> int:
    """Explain a TOPIC, or show the help of a COMMAND.

    Without an argument: the topics and the commands.

    \b
    Example:
      pusher help sources
      pusher help push
      pusher help services --file compose.yaml
      pusher help schema > pusher.schema.json
    """
    root = context.find_root()
    if file is not None:
        click.echo(_file(_topic(name), file), nl=False)
    elif not name:
        _list(commands_of(cast("click.Group", root.command), root))
    elif name == ("schema",):
        from pusher.help.topics import read_schema

        click.echo(read_schema(), nl=False)
    elif topic := _topic(name, commands_of(cast("click.Group", root.command), root)):
        _show(topic)
    else:
        click.echo(_help_of(root, name))
    return ExitCode.DONE


def _list(commands: Mapping[str, click.Command]) -> None:
    from pusher.help.topics import NAMES, read_topic

    titles = {name: read_topic(name).title for name in NAMES}
    summaries = {name: command.get_short_help_str(200) for name, command in commands.items()}
    formatter = click.HelpFormatter(width=_width())
    for heading, entries in (("Topics", titles), ("Commands", summaries)):
        with formatter.section(heading):
            formatter.write_dl(list(entries.items()))
    formatter.write_paragraph()
    formatter.write_text("pusher help NAME explains one of them.")
    click.echo(formatter.getvalue(), nl=False)


def _topic(words: tuple[str, ...], commands: Container[str] = ()) -> str | None:
    """Return the topic that was named, or that another word means which is not one of the ``commands``."""
    from pusher.help.topics import NAMES, SYNONYMS

    if len(words) != 1:
        return None
    (word,) = words
    if word in NAMES:
        return word
    return None if word in commands else SYNONYMS.get(word.lower())


def _file(topic: str | None, name: str) -> str:
    """Return a file of a topic. Raises CommandLineInvalid."""
    from pusher.help.topics import NAMES, read_topic

    files = {each: read_topic(each).files for each in NAMES}
    if found := files.get(topic or "", {}).get(name):
        return found
    there = [
        f"pusher help {each} --file {file}" for each in NAMES for file in files[each] if topic in (None, each)
    ]
    hint = f"there is {', '.join(there)}" if there else f"pusher help {topic} shows all of it"
    raise CommandLineInvalid(f"there is no file {quoted(name)} in {topic or 'the topics'}", hint=hint)


def _show(name: str) -> None:
    from pusher.help.terminal import render
    from pusher.help.topics import read_topic

    styled = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    for line in render(read_topic(name).blocks, _width(), styled=styled):
        click.echo(line, color=styled)


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size().columns)


def _help_of(root: click.Context, words: tuple[str, ...]) -> str:
    """Return what ``--help`` prints. Raises CommandLineInvalid for an unknown command."""
    context = root
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            raise _unknown_error(word, context)
        context = click.Context(command, parent=context, info_name=word)
    return context.get_help()


def _unknown_error(word: str, context: click.Context) -> CommandLineInvalid:
    from pusher.help.topics import NAMES, SYNONYMS

    is_top = context.parent is None
    known = context.command.list_commands(context) if isinstance(context.command, click.Group) else []
    if is_top:
        known += NAMES
    near = get_close_matches(word, [*known, *(SYNONYMS if is_top else ())], n=1)
    guess = SYNONYMS.get(near[0], near[0]) if near else ""
    what = "topic or command" if is_top else f"command of {context.command_path}"
    path = context.command_path.removeprefix("pusher").strip()
    command = f"pusher help {path} {guess}".replace("  ", " ")
    hint = (
        f"did you mean {command}? See also: pusher help"
        if guess
        else "pusher help lists all topics and commands"
    )
    return CommandLineInvalid(f"no such {what} {quoted(word)}", hint=hint)

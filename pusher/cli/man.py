"""Generate the man pages, one per command and topic. The build of the wheel writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Final

import click

from pusher import __version__
from pusher.cli.app import cli
from pusher.cli.groups import commands_of
from pusher.cli.options import grouped_options
from pusher.errors import ExitCode
from pusher.help import roff
from pusher.help.topics import NAMES, read_topic

_EXITS: Final = {
    ExitCode.DONE: "done",
    ExitCode.UNEXPECTED: "unexpected: a bug",
    ExitCode.USAGE: "usage",
    ExitCode.FAILED: "a job failed for good",
    ExitCode.AUTH: "authentication or permission",
    ExitCode.UNFINISHED: "unfinished, and trying again helps",
    ExitCode.REFUSED: "refused by the registry",
    ExitCode.SOURCE: "source missing or changed",
    ExitCode.STORE: "job store",
    ExitCode.HANGUP: "the terminal was closed",
    ExitCode.INTERRUPTED: "Ctrl\\-C",
    ExitCode.TERMINATED: "SIGTERM",
}


def man_pages() -> dict[str, str]:
    """Return all pages by file name, ``pusher.1`` first."""
    pages = {}
    for context in _contexts(click.Context(cli, info_name="pusher", **cli.context_settings)):
        name = context.command_path.replace(" ", "-")
        pages[f"{name}.1"] = _command_page(name, context)
    for name in NAMES:
        topic = read_topic(name)
        body = [".SH DESCRIPTION", *roff.body(topic.blocks[1:]), *_see_also(["pusher(1)"])]
        pages[f"pusher-{name}.7"] = roff.page(f"pusher-{name}", 7, topic.title, __version__, body)
    return pages


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """Yield the contexts of the command and its subcommands."""
    yield context
    if isinstance(context.command, click.Group):
        for name, command in commands_of(context.command, context).items():
            yield from _contexts(click.Context(command, parent=context, info_name=name))


def _command_page(name: str, context: click.Context) -> str:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        *(".SH SYNOPSIS", f".B {roff.escape(context.command_path)}", roff.escape(usage)),
        *(".SH DESCRIPTION", *_description(command.help or "")),
        *(".SH OPTIONS", *_options(context)),
    ]
    if isinstance(command, click.Group):
        lines += [".SH COMMANDS", *_commands(context, command)]
    related = ["pusher(1)"]
    if context.parent is None:
        lines += [".SH TOPICS", *_topics(), '.SH "EXIT STATUS"', *_exit_codes()]
        related = [f"pusher-{topic}(7)" for topic in NAMES]
    summary = command.get_short_help_str(200).rstrip(".")
    return roff.page(name, 1, summary, __version__, [*lines, *_see_also(related)])


def _description(text: str) -> Iterator[str]:
    """Yield the description; a paragraph after ``\\b`` keeps its lines, as in click."""
    for paragraph in re.split(r"\n\s*\n", cleandoc(text)):
        if paragraph.startswith("\b"):
            yield from roff.verbatim(paragraph.split("\n")[1:])
        else:
            yield ".PP"
            yield roff.escape(" ".join(paragraph.split()))


def _options(context: click.Context) -> Iterator[str]:
    for heading, records in grouped_options(context.command, context):
        if heading:
            yield f'.SS "{roff.escape(heading)}"'
        for names, text in records:
            yield from (".TP", f".B {roff.escape(names)}", roff.escape(text))


def _commands(context: click.Context, group: click.Group) -> Iterator[str]:
    for name, command in commands_of(group, context).items():
        page = f"{context.command_path} {name}".replace(" ", "-")
        yield from (".TP", f".BR {roff.escape(page)} (1)", roff.escape(command.get_short_help_str(200)))


def _topics() -> Iterator[str]:
    for name in NAMES:
        yield from (".TP", f".BR {roff.escape(f'pusher-{name}')} (7)", roff.inline(read_topic(name).title))


def _exit_codes() -> Iterator[str]:
    for code, meaning in _EXITS.items():
        yield from (".TP", f".B {int(code)}", meaning)


def _see_also(pages: list[str]) -> list[str]:
    return ['.SH "SEE ALSO"', roff.escape(", ".join(pages))]

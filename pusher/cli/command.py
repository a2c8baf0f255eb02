"""Define the classes of commands, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from pusher.cli.options import write_options
from pusher.cli.verbose import set_quiet, verbose_options


@contextmanager
def _in_context(ctx: click.Context) -> Iterator[None]:
    """Add the context to usage errors, so that they name the command; click omits it from some."""
    try:
        yield
    except click.UsageError as error:
        error.ctx = error.ctx or ctx
        raise


class Command(click.Command):
    """A command that has ``-v``, ``--log-json`` and ``--debug``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += verbose_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True  # they are refused here, with a suggestion
        with _in_context(ctx):
            super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            from pusher.cli.mistyped import extra_arguments_error

            raise extra_arguments_error(ctx, ctx.args)
        return ctx.args

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter)


class Group(click.Group):
    """A group of commands, listed in the order in which they were added.

    ``places``: by name, the ``module:attribute`` of commands whose modules are imported when they are needed:
    importing those of all commands takes longer than most commands.
    """

    command_class = Command
    aliases: Mapping[str, str] = {}
    """Other names of commands, which are not listed."""

    def __init__(self, *args: Any, places: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += verbose_options()
        self._places = dict(places or {})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _in_context(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            from pusher.cli.mistyped import unknown_command_error

            raise unknown_command_error(name, ctx.command_path, self.list_commands(ctx), args[1:])
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        added = [name for name, command in self.commands.items() if not command.hidden]
        return list(dict.fromkeys([*self._places, *added]))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.aliases.get(cmd_name, cmd_name)
        if name in self._places and name not in self.commands:
            module, _, attribute = self._places[name].partition(":")
            self.add_command(getattr(import_module(module), attribute), name)
        return super().get_command(ctx, name)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=set_quiet,
    help="Print only results and errors.",
)

progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "lines", "json", "none"]),
    default="auto",
    show_default=True,
    help="How to show progress; JSON lines go to stdout, the others to stderr.",
)

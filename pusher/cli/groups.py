"""Look into groups of commands, whose modules may not be imported yet."""

from __future__ import annotations

import click


def commands_of(group: click.Group, ctx: click.Context) -> dict[str, click.Command]:
    """Return all commands of a group by their names."""
    found = {name: group.get_command(ctx, name) for name in group.list_commands(ctx)}
    return {name: command for name, command in found.items() if command is not None}

"""Define options of commands from the settings, and their headings in ``--help``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import click

from pusher.cli import completers
from pusher.config.options import EVERYDAY, LINK, REGISTRY, STORAGE, Option
from pusher.config.settings import BY_NAME, OPTIONS

F = TypeVar("F", bound=Callable[..., Any])

_COMPLETERS: Final = {
    "profile": completers.profiles,
    "ca_cert": completers.files,
    "compression": completers.compressions,
}
_SHORT: Final = {"parallel": ("-j",), "username": ("-u",)}
"""What other tools call these options, in one letter."""
_GROUPS: Final = (EVERYDAY, "Image", LINK, REGISTRY, STORAGE)


class SettingOption(click.Option):
    """An option that is shown below its group's heading."""

    group = EVERYDAY


def setting_options(*names: str) -> Callable[[F], F]:
    """Return a decorator that adds the flags of these settings; ``read_settings`` takes their values."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = _option(BY_NAME[name])(function)
        return function

    return decorate


def _option(option: Option) -> Callable[[F], F]:
    default = f"; default: {option.default}" if option.default and not option.is_switch else ""
    cls = type("SettingOption", (SettingOption,), {"group": option.group})
    text = f"{option.help}  [{option.variables[0]}{default}]"
    if option.is_switch:
        return click.option(option.flag, option.name, is_flag=True, cls=cls, help=text)
    return click.option(
        *_SHORT.get(option.name, ()),
        option.flag,
        option.name,
        metavar=option.metavar,
        multiple=option.is_list,
        cls=cls,
        help=text,
        shell_complete=_COMPLETERS.get(option.name),
    )


def _of(group: str) -> tuple[str, ...]:
    return tuple(option.name for option in OPTIONS if option.group == group and option.has_flag)


link_options = setting_options(*_of(LINK))
"""``--chunk-size``, the time-outs, ``--give-up-after``."""
registry_options = setting_options(*(name for name in _of(REGISTRY) if name != "plain_http"))
"""``--profile``, ``--insecure``, ``--ca-cert``; ``login_options`` has ``--plain-http``."""
compression_options = setting_options("compression", "compression_level")
every_option = setting_options(*(option.name for option in OPTIONS if option.has_flag))


def worker_options(function: F) -> F:
    """Add the options of commands that send blobs, besides ``login_options``."""
    for decorate in (
        setting_options("spool_limit", "lease"),
        setting_options("compression_threads", "no_early"),
        compression_options,
        registry_options,
        link_options,
        setting_options("parallel", "limit_rate"),
    ):
        function = decorate(function)
    return function


def write_options(command: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options below their headings, in the order of the groups."""
    for heading, records in grouped_options(command, context):
        with formatter.section(heading or "Options"):
            formatter.write_dl(records)


def grouped_options(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each group's heading ("" for the first) and its options: their names and help."""
    for group in _GROUPS:
        records = [
            record
            for parameter in command.get_params(context)
            if isinstance(parameter, click.Option)
            and getattr(parameter, "group", EVERYDAY) == group
            and (record := parameter.get_help_record(context)) is not None
        ]
        if records:
            yield group, records

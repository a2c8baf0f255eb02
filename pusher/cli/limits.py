"""Implement ``pusher limit`` and ``pusher parallel``, which running workers follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pusher.cli.command import Command, json_option
from pusher.cli.output import print_json, print_line, print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, store_exists
from pusher.config.settings import BY_NAME
from pusher.config.values import parse_seconds
from pusher.errors import ExitCode, InvalidOption
from pusher.text import quoted

if TYPE_CHECKING:
    from pusher.store.queue_settings import QueueSetting
    from pusher.store.store import Store

_RATE: Final = "limit_rate"
_PARALLEL: Final = "parallel"
_NAMES: Final = {_RATE: "Limit", _PARALLEL: "Uploads at a time"}
_WITHOUT: Final = {
    _RATE: "off; each worker has what it was started with (--limit-rate)",
    _PARALLEL: "as each worker was started (--parallel)",
}
_SCOPES: Final = {_RATE: "for all workers together", _PARALLEL: "for each worker"}
_EXAMPLES: Final = {_RATE: "pusher limit 2M --for 1h", _PARALLEL: "pusher parallel 1 --for 30m"}
_NOTHING_SET: Final = {f"{name}{end}": None for name in _NAMES for end in ("", "_until", "_then")}

_for_option = click.option(
    "--for", "time", metavar="TIME", help="Only for this long, such as 90s, 15m or 2h; then as before."
)


@click.command(cls=Command)
@click.argument("rate", required=False)
@_for_option
@json_option
def limit(rate: str | None, time: str | None, as_json: bool) -> int:
    """Limit the rate of all workers together.

    RATE is bytes per second for all workers of this queue, such as 2M, 512K or, by the time of day,
    '08:00-18:00=2M,off'; off removes the limit, or with --for suspends it. Running workers follow within two
    seconds, uploads in progress included. A worker that was started with a lower --limit-rate keeps to that
    as well. Without RATE, print the limit.

    \b
    Example:
      pusher limit 2M --for 1h
      pusher limit off
    """
    return _show_or_set(_RATE, rate, time, as_json=as_json)


@click.command(cls=Command)
@click.argument("number", metavar="[N]", required=False)
@_for_option
@json_option
def parallel(number: str | None, time: str | None, as_json: bool) -> int:
    """Change how many blobs each worker sends at a time.

    N replaces the --parallel that the workers of this queue were started with; off returns to that. Running
    workers follow within two seconds. With fewer, uploads in progress pause after the chunk that is being
    sent, and continue from there later. Without N, print it.

    \b
    Example:
      pusher parallel 1 --for 30m
      pusher parallel off
    """
    return _show_or_set(_PARALLEL, number, time, as_json=as_json)


def limits_as_json(store: Store) -> dict[str, object]:
    """Return the settings that workers follow, as ``--json`` prints them; those that are off are None."""
    from pusher.progress.format import rfc3339

    found = store.settings.all()
    described: dict[str, object] = {}
    for name, number in ((_RATE, False), (_PARALLEL, True)):
        setting = found.get(name)
        described[name] = _value_as_json(setting.value if setting else None, number=number)
        described[f"{name}_until"] = rfc3339(setting.until) if setting and setting.until else None
        described[f"{name}_then"] = _value_as_json(setting.then if setting else None, number=number)
    return described


def _value_as_json(value: str | None, *, number: bool) -> int | str | None:
    from pusher.store.queue_settings import OFF

    if value is None or value == OFF:
        return None
    return int(value) if number else value


def limits_in_status(store: Store) -> dict[str, object]:
    """Return what ``status --json`` has besides the jobs: the field ``limits`` where a limit is set."""
    limits = limits_as_json(store)
    return {} if limits == _NOTHING_SET else {"limits": limits}


def describe_limits(store: Store) -> str:
    """Return the settings that workers follow, in sentences; "" if all are off."""
    return " ".join(_describe(name, setting) for name, setting in sorted(store.settings.all().items()))


def _describe(name: str, setting: QueueSetting | None) -> str:
    if setting is None:
        return f"{_NAMES[name]}: {_WITHOUT[name]}."
    from pusher.progress.format import local_time
    from pusher.store.queue_settings import OFF

    now = _WITHOUT[name] if setting.value == OFF else f"{setting.value} {_SCOPES[name]}"
    until = f", until {local_time(setting.until)}" if setting.until else ""
    then = f"; then {setting.then}" if setting.then else ""
    return f"{_NAMES[name]}: {now}{until}{then}."


def _show_or_set(name: str, text: str | None, time: str | None, *, as_json: bool) -> int:
    from pusher.store.queue_settings import OFF

    value, seconds = _read(name, text, time)
    settings = read_settings()
    if text is None and not store_exists(settings):
        if as_json:
            print_json(_NOTHING_SET)
        else:
            print_line(_describe(name, None))
        return ExitCode.DONE
    with open_store(settings) as store:
        if value is not None:
            setting = store.settings.set(name, value, seconds)
            if value == OFF and setting.then is None:
                store.settings.clear(name)  # and nothing changes after that time
        elif text is not None:
            store.settings.clear(name)
        if as_json:
            print_json(limits_as_json(store))
        else:
            say = print_line if text is None else print_notice
            say(_describe(name, store.settings.all().get(name)))
    return ExitCode.DONE


def _read(name: str, text: str | None, time: str | None) -> tuple[str | None, float | None]:
    """Return the value, None for none or for good off, and for how many seconds. Raises InvalidOption."""
    from pusher.store.queue_settings import OFF

    seconds = None if time is None else parse_seconds(time, "--for")
    if text is None and time is not None:
        raise InvalidOption(
            f"--for is {quoted(time)}, and there is no value for that time", hint=f"write {_EXAMPLES[name]}"
        )
    if text is None or text.strip().lower() == OFF:
        return (None, None) if seconds is None else (OFF, seconds)
    return str(BY_NAME[name].convert(text, BY_NAME[name].metavar)), seconds

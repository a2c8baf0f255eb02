"""Implement ``pusher registry``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pusher.cli.command import Command, json_option
from pusher.cli.output import print_columns, print_json, print_line, print_notice
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store
from pusher.errors import ExitCode

if TYPE_CHECKING:
    from pusher.store.records import RegistryFacts


@click.command(cls=Command)
@click.argument("host", required=False)
@click.option("--forget", is_flag=True, help="Forget it; the next push learns it again.")
@json_option
def registry(host: str | None, forget: bool, as_json: bool) -> int:
    """Show what pushes have learned about registries.

    That is the speed of the link and how much it carries between two breaks, chunk sizes that were refused,
    and the way of uploading. What was refused is tried again after a day and after pusher retry; --chunk-size
    and --profile take precedence.

    \b
    Example:
      pusher registry registry.example.com
      pusher registry registry.example.com --forget
    """
    from pusher.errors import CommandLineInvalid
    from pusher.reference import canonical_registry

    if forget and host is None:
        raise CommandLineInvalid("no registry given", hint="use: pusher registry HOST --forget")
    name = None if host is None else canonical_registry(host)
    with open_store(read_settings()) as store:
        if name is not None and forget:
            known = store.facts.forget(name)
            print_notice(
                f"Forgot what was learned about {name}." if known else f"Nothing is known about {name}."
            )
            return ExitCode.DONE
        found = store.facts.all() if name is None else [store.facts.get(name)]
    if as_json:
        print_json({"registries": [_as_json(facts) for facts in found]})
        return ExitCode.DONE
    for number, facts in enumerate(found):
        if number:
            print_line("")
        for title, value in _lines(facts):
            print_columns(f"{title:<12}", value)
    if not found:
        print_notice("Nothing is known about any registry yet.")
    return ExitCode.DONE


def _lines(facts: RegistryFacts) -> list[tuple[str, str]]:
    from pusher.cli.table import format_time
    from pusher.units import human_bytes

    since = f" (learned {format_time(facts.limited_at)})" if facts.limited_at else ""
    lines = [("registry", facts.registry)]
    if facts.profile:
        lines.append(("profile", facts.profile))
    if facts.max_chunk:
        lines.append(("chunks", f"at most {human_bytes(facts.max_chunk)}: larger ones were refused{since}"))
    if facts.uplink:
        lines.append(("speed", f"{human_bytes(round(facts.uplink))}/s an upload"))
    if facts.gzip_level and facts.link_rate:
        lines.append(("gzip", f"level {facts.gzip_level} at {human_bytes(round(facts.link_rate))}/s in all"))
    if facts.breaks == 1:
        lines.append(("link", "broke once"))
    elif facts.carries and facts.breaks:
        estimate = f"an estimated {human_bytes(round(facts.carries))} between two breaks"
        lines.append(("link", f"broke {facts.breaks} times, {estimate}"))
    elif facts.carries:
        lines.append(("link", "has held so far"))
    if len(lines) == 1:
        lines.append(("", "nothing is known yet"))
    return lines


def _as_json(facts: RegistryFacts) -> dict[str, object]:
    from pusher.progress.format import rfc3339

    return {
        "registry": facts.registry,
        "profile": facts.profile,
        "max_chunk": facts.max_chunk,
        "learned_at": None if facts.limited_at is None else rfc3339(facts.limited_at),
        "bytes_per_second": None if facts.uplink is None else round(facts.uplink),
        "link_bytes_per_second": None if facts.link_rate is None else round(facts.link_rate),
        "gzip_level": facts.gzip_level,
        "bytes_between_breaks": round(facts.carries) if facts.carries and facts.breaks else None,
        "breaks": facts.breaks or 0,
    }

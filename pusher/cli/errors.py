"""Implement ``pusher errors``."""

from __future__ import annotations

from difflib import get_close_matches

import click

from pusher.cli.command import Command, json_option
from pusher.cli.output import print_columns, print_json
from pusher.errors import ExitCode, InvalidOption
from pusher.errors.catalogue import AGAIN, CatalogueEntry, catalogue


@click.command(cls=Command)
@click.argument("code", required=False)
@json_option
def errors(code: str | None, as_json: bool) -> int:
    """Explain the errors of pusher.

    Every error has a CODE; status --json and --log-json show it.

    \b
    Example:
      pusher errors certificate-untrusted
    """
    entries = catalogue()
    if code is not None and code not in entries:
        close = get_close_matches(code, entries, n=1)
        hint = f"did you mean {close[0]}?" if close else "pusher errors lists all errors"
        raise InvalidOption(f"there is no error {code!r}", hint=hint)
    chosen = [entries[code]] if code else list(entries.values())
    if as_json:
        print_json({"errors": [entry.as_json() for entry in chosen]})
    elif code:
        _explain(chosen[0])
    else:
        width = max(map(len, entries))
        for entry in chosen:
            print_columns(f"{entry.code:<{width}}  ", entry.meaning)
    return ExitCode.DONE


def _explain(entry: CatalogueEntry) -> None:
    print_columns(f"{entry.code}: ", entry.meaning)
    print_columns("  what to do:          ", entry.advice)
    print_columns("  exit code:           ", f"{entry.exit_code:d}")
    print_columns("  trying again helps:  ", AGAIN[entry.retry])

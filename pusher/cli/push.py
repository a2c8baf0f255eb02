"""``pusher push``."""

from __future__ import annotations

from pathlib import Path

import click

from pusher.cli import completers
from pusher.cli.base import Command, opened, progress_option, read_settings
from pusher.cli.enqueue import record, to_option
from pusher.cli.options import worker_options
from pusher.cli.password import login_options, with_password
from pusher.cli.work import conclude, work


@click.command(cls=Command)
@click.argument("image", shell_complete=completers.images)
@to_option
@login_options
@worker_options
@progress_option
def push(image: str, to: str | None, password_stdin: bool, progress: str, **flags: object) -> int:
    """Push IMAGE now, and print the reference with its digest.

    The same as enqueue and run for this one image. Where it is cut off, pusher run goes on with it.

    \b
    Example:
      pusher push registry.example.com/team/app:1.2
      pusher push app:1.2 --to registry.example.com
      pusher push build/app.tar --to registry.example.com/team/app:1.2
    """
    settings = read_settings(**flags)
    registry = _registry(image, to, settings.default_registry)
    settings = with_password(settings, {registry} if registry else (), password_stdin=password_stdin)
    with opened(settings) as store:
        job = record(store, settings, image, to, with_level=flags["compression_level"] is not None)
        result = work(store, settings, progress, only=[job.id])
    return conclude(result, progress, single=True)


def _registry(image: str, to: str | None, default: str | None) -> str | None:
    """The registry that the password is asked for, before anything else; None if the archive names it."""
    from pusher.reference import destination
    from pusher.sources import find

    if to is not None:
        name: str | None = "app"
    elif image.startswith("docker-archive:") or Path(image).exists():
        return None
    else:
        _, name = find(image)
    found = destination(name, to=to, default=default)
    return found.registry if found else None

"""Implement ``pusher demo``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from pusher.cli.command import Command
from pusher.cli.output import print_line, print_notice
from pusher.errors import ExitCode
from pusher.text import suggest


@click.command(cls=Command)
@click.option("--keep", is_flag=True, help="Leave the registry running at the end, to push to it.")
def demo(keep: bool) -> int:
    """Show a push over a link that breaks, on this machine alone.

    It creates an image of 60 MB and a registry with serverless-registry's limits behind a bad link, pushes
    with real pusher processes, kills one with kill -9, cuts the network, and pulls everything back. Nothing
    beyond this machine is contacted, and nothing is left behind. It takes 20 seconds and 250 MB of disk.

    \b
    Example:
      pusher demo --keep
    """
    from pusher.serve.demo.story import Scale, tell

    for port in tell(print_line, Scale()):
        print_line()
        if keep:
            place = f"localhost:{port}/app:1"
            print_line(f"The registry keeps running, on a good link now: http://localhost:{port}/ shows it.")
            print_line("Try, with an image of yours:")
            print_line(f"  docker tag IMAGE {place} && docker push {place}")
            print_line(f"  {_program()} push IMAGE --to {place}")
            print_line("Press Ctrl-C to stop it.")
            _wait()
        else:
            program = _program()
            print_line("Next, an image of yours:")
            print_line(f"  {program} push app:1.2 --to registry.example.com/team/app:1.2")
            print_line(f"  {program} serve        then docker push localhost:5055/registry.example.com/...")
            print_line(f"  {program} demo --keep  leaves the registry running, to push to it")
    return ExitCode.DONE


def _program() -> str:
    """Return how this program was called, as far as that can be typed again."""
    called = sys.argv[0]
    is_script = Path(called).name == "pusher" and shutil.which("pusher") is None
    return (is_script and suggest("{}", called)) or "pusher"


def _wait() -> None:
    import threading

    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print_notice("The registry was stopped.")

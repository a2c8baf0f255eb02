"""Implement ``pusher demo``."""

from __future__ import annotations

import click

from pusher.cli.command import Command
from pusher.cli.output import print_line, print_notice
from pusher.errors import ExitCode


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
            print_line(
                f"The registry keeps running: docker push localhost:{port}/app:1, or look at "
                f"http://localhost:{port}/. Press Ctrl-C to stop it."
            )
            _wait()
        else:
            print_line(
                "Next: pusher push IMAGE --to registry.example.com/team/app:1.2, or pusher demo --keep"
            )
    return ExitCode.DONE


def _wait() -> None:
    import threading

    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print_notice("The registry was stopped.")

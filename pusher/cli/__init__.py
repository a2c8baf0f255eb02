"""The command line: one file per command, and the only part of pusher that prints.

The rest of pusher is imported inside the commands, so that ``--help`` costs nothing.
"""

from pusher.cli.app import main

__all__ = ["main"]

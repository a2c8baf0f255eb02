"""The command line: one file a command, and the only place that prints.

The rest of pusher is imported inside the commands, so that ``--help`` costs nothing.
"""

from pusher.cli.app import main

__all__ = ["main"]

"""Run the console script and ``python -m pusher``."""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Run the command line. Ctrl-C ends the process without a traceback, even while modules are loaded."""
    if os.name != "posix":  # the imports below need what Windows lacks
        sys.stderr.write(
            "error: pusher does not run on Windows: it needs the file locks of Linux or macOS\n"
            "  hint: install it in WSL (wsl --install), which sees the files of Windows below /mnt\n"
        )
        sys.exit(2)
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pusher.cli import main as command

    try:
        signal.signal(signal.SIGINT, usual)
        command()
    except SystemExit as end:
        if any(
            not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
        ):
            # it waits for an answer that does not come, and the interpreter would wait for it
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise
    finally:
        if usual is signal.default_int_handler:  # nothing is left that would catch it
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()

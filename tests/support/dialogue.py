"""A command in a real terminal, and somebody who types."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LONGEST = 90.0


@dataclass(frozen=True)
class Dialogue:
    """What went to stdout, which is a pipe; what the terminal showed; how it ended."""

    out: str
    shown: str
    code: int


def dialogue(
    command: Sequence[str], *replies: tuple[str, bytes], environ: Mapping[str, str] | None = None
) -> Dialogue:
    """Run a command whose stdin and stderr are a terminal of its own; type a reply once its prompt is there.

    A prompt that never comes is an AssertionError.
    """
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=follower,
        env=environ,
        start_new_session=True,
        # A session of its own gets the terminal as /dev/tty when it opens it.
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(follower)
    try:
        shown = b""
        for prompt, typed in replies:
            before, deadline = len(shown), time.monotonic() + _LONGEST
            while prompt.encode() not in shown[before:]:
                assert time.monotonic() < deadline, f"no prompt {prompt!r}: {shown!r}"
                shown += _read(leader, 0.1)
            os.write(leader, typed)
        out, _ = process.communicate(timeout=_LONGEST)
        while more := _read(leader, 0):
            shown += more
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return Dialogue(out.decode(), shown.decode(), process.returncode)


def _read(leader: int, patience: float) -> bytes:
    try:
        return os.read(leader, 1024) if select.select([leader], [], [], patience)[0] else b""
    except OSError:  # nobody has the terminal open any more
        return b""

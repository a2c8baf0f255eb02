"""The README's picture: a real session on a link that breaks, as an SVG with a few frames.

python -m tests.documents.session

A terminal runs pusher against a registry on loopback; it is killed in the middle of a layer, then run again
while the network is away. Each frame is what the terminal showed at that moment. A browser that shows no
animation shows the last frame.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.images import write_big_archive
from tests.support.link import ShakyLink
from tests.support.screen import Screen

_ROOT: Final = Path(__file__).parents[2]
PICTURE: Final = Path(__file__).with_name("session.svg")
_WIDTH: Final = 104
_CHARACTER: Final = 12.2
"""Width of a column in rich's picture."""
_LONGEST: Final = 120.0
_BLOB: Final = r"^[0-9a-f]{12}  .*"
"""The beginning of a blob's row."""
_THEME: Final = TerminalTheme(
    (24, 26, 31),
    (214, 218, 226),
    [
        *((24, 26, 31), (224, 108, 117), (126, 200, 120), (229, 192, 123)),
        *((97, 175, 239), (198, 120, 221), (86, 182, 194), (214, 218, 226)),
    ],
)
_FRAME: Final = """\
<g class="frame f{number}">
<style>{styles}</style>
<g transform="translate({terminal_x}, {terminal_y})" class="{unique_id}-matrix">
{backgrounds}
{matrix}
</g></g>"""
_PICTURE: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
text {{ font: {char_height}px/{line_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }}
.frame {{ opacity: 0; animation: {seconds:g}s step-end infinite; }}
.frame:last-of-type {{ opacity: 1; }}
{keyframes}
@media (prefers-reduced-motion: reduce) {{ .frame {{ animation: none; }} }}
</style>
{chrome}
{frames}
</svg>
"""


class MomentMissed(AssertionError):
    """What was waited for was never on the screen: on a busy machine progress is drawn in large steps."""


@dataclass
class Session:
    """A terminal in which commands run one after the other."""

    home: Path
    chunk_size: str | None = None
    screen: Screen = field(default_factory=lambda: Screen(_WIDTH))
    frames: list[tuple[list[Text], float]] = field(default_factory=list)
    """What was shown, and for how many seconds the picture shows it."""

    def keep(self, seconds: float) -> None:
        """Keep what is shown now as a frame."""
        self.frames.append((self.screen.styled(), seconds))

    def run(self, command: str, *moments: tuple[str, Callable[[], object]], kill: bool = False) -> None:
        """Run ``pusher COMMAND``. Once a row matches the first moment's pattern, do what it says, and so on;
        ``kill``: kill it after the last."""
        self.screen.feed(f"$ pusher {command}\r\n")
        self.keep(1.5)
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, _WIDTH, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "pusher", *command.split()],
            cwd=self.home,
            env=self._environ(),
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        try:
            left = list(moments)
            deadline = time.monotonic() + _LONGEST
            while self._read(leader):
                while left and any(re.search(left[0][0], line) for line in self.screen.lines[-8:]):
                    left.pop(0)[1]()
                    if kill and not left:
                        process.send_signal(signal.SIGKILL)
                assert time.monotonic() < deadline, self.screen.lines
            process.wait(_LONGEST)
            if left:
                raise MomentMissed(f"{left[0][0]} was not shown: {self.screen.lines}")
        finally:
            process.kill()
            process.wait()
            os.close(leader)
        if kill:
            self.screen.feed("\r\nKilled\r\n")

    def _read(self, leader: int) -> bool:
        """Play what has come; False at the end."""
        if not select.select([leader], [], [], 0.05)[0]:
            return True
        try:
            data = os.read(leader, 65536)
        except OSError:  # nobody has the terminal open any more
            return False
        self.screen.feed(data.decode())
        return bool(data)

    def _environ(self) -> dict[str, str]:
        environ = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environ |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(_ROOT)}
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        environ |= {name: str(self.home) for name in ("HOME", "DOCKER_CONFIG")}
        environ["PUSHER_HOME"] = str(self.home / "pusher")
        return environ | ({"PUSHER_CHUNK_SIZE": self.chunk_size} if self.chunk_size else {})


def record(
    folder: Path, sizes: list[int], *, rate: int, port: int = 0, chunk_size: str | None = None
) -> Session:
    """Push an image with layers of these sizes (bytes) at ``rate`` bytes a second; kill, break, resume."""
    session = Session(folder, chunk_size)
    write_big_archive(folder / "app.tar", sizes, name="app:1.2")
    with ExitStack() as stack:
        # known for keeping what was acknowledged, whatever happens to the chunk after it
        registry = stack.enter_context(FakeRegistry(SERVERLESS.scaled(min=1_000, max=100_000_000)))
        link = stack.enter_context(ShakyLink(registry.address, rate=rate, port=port))
        reference = f"localhost:{link.address.rpartition(':')[2]}/team/app:1.2"
        session.run(
            f"push app.tar --to {reference}",
            (rf"{_BLOB} [12]\d%", lambda: session.keep(1.5)),
            (rf"{_BLOB} [45]\d%", lambda: session.keep(1.5)),
            kill=True,
        )
        session.keep(2)
        session.run("status")
        session.keep(3)
        link.stop()

        def network_returns() -> None:
            session.keep(3)
            link.start()

        session.run(
            "run",
            (r"waiting [1-9]s: .* refuses", network_returns),
            (rf"{_BLOB} [6-9]\d%", lambda: session.keep(2)),
        )
        session.keep(8)
    return session


def svg(session: Session) -> str:
    """Return the frames as one SVG, each shown for its time; without animations the last one is shown."""
    height = max(len(rows) for rows, _ in session.frames)
    whole = sum(seconds for _, seconds in session.frames)
    frames, keyframes, start = [], [], 0.0
    for number, (rows, seconds) in enumerate(session.frames):
        frames.append(_export(rows, height, f"f{number}", _FRAME.replace("{number}", str(number))))
        begin, end = 100 * start / whole, 100 * (start + seconds) / whole
        keyframes.append(
            f"@keyframes k{number} {{ 0% {{ opacity: {0 if number else 1}; }} {begin:.2f}% {{ opacity: 1; }} "
            f"{end:.2f}% {{ opacity: {0 if number + 1 < len(session.frames) else 1}; }} }}\n"
            f".f{number} {{ animation-name: k{number}; }}"
        )
        start += seconds
    picture = _PICTURE.replace("{seconds:g}", f"{whole:g}")
    for name, lines in (("keyframes", keyframes), ("frames", frames)):
        picture = picture.replace(f"{{{name}}}", "\n".join(lines).replace("{", "{{").replace("}", "}}"))
    return _export(session.frames[-1][0], height, "f", picture)


def _export(rows: list[Text], height: int, name: str, code_format: str) -> str:
    """Return what rich makes of the rows: every ``{...}`` of ``code_format`` is a part of its picture."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=_WIDTH, record=True, file=nowhere, legacy_windows=False)
        for row in [*rows, *[Text()] * (height - len(rows))]:
            console.print(row, no_wrap=True, crop=True)
        text = console.export_svg(title="pusher", theme=_THEME, code_format=code_format, unique_id=name)
    text = re.sub(r' clip-path="[^"]*"|<text [^>]*>\n</text>', "", text)
    text = re.sub(r'x="([\d.]+)" (y="[\d.]+") textLength="([\d.]+)">((?:&#160;)+)', _without_indent, text)
    return re.sub(r"\s*\n\s*", "\n", text)


def _without_indent(match: re.Match[str]) -> str:
    """Move a text that begins with blanks: not every program that shows an SVG keeps them."""
    blanks = _CHARACTER * (len(match[4]) // len("&#160;"))
    return f'x="{float(match[1]) + blanks:g}" {match[2]} textLength="{float(match[3]) - blanks:g}">'


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pusher-session-") as folder:
        session = record(Path(folder), [2_000_000, 600_000_000], rate=25_000_000, port=5000)
    PICTURE.write_text(svg(session), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The live display of a terminal: one line a blob, redrawn in place."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pusher.oci.digest import short
from pusher.progress.counters import Blob, Counters, Preparing, Snapshot, Waiting, eta
from pusher.progress.format import human_bytes, human_seconds, human_share, percent
from pusher.progress.lines import describe

_LABEL: Final = 14
_BAR: Final = 30
_NARROWEST_BAR: Final = 8
_COUNT: Final = len("  99 of 99 blobs")


class Terminal:
    """Events scroll above, the block of what is going on stays below."""

    def __init__(self, counters: Counters, stream: TextIO, *, single: bool = False) -> None:
        self._counters = counters
        self._single = single
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        # Live hides the cursor, and a killed process could not show it again.
        self._console.show_cursor(True)

    def render(self) -> None:
        """Print what happened and redraw the block."""
        snapshot = self._counters.snapshot()
        for event in self._counters.drain():
            if line := describe(event, snapshot, single=self._single, each_blob=False):
                self._console.print(Text(line))
        width, height = self._console.size
        ascii_only = not self._console.encoding.startswith("utf")
        rows = block(snapshot, width=width, height=height, ascii_only=ascii_only)
        self._live.update(Group(*rows), refresh=True)

    def close(self) -> None:
        """Print what happened last and remove the block."""
        self.render()
        self._live.stop()


def block(snapshot: Snapshot, *, width: int, height: int, ascii_only: bool = False) -> list[Text]:
    """The rows below the log, each no wider than ``width``; at most ``height`` - 1 of them."""
    rows = [_blob(blob, width, ascii_only) for blob in snapshot.active]
    rows += [_preparing(layer) for layer in snapshot.preparing]
    rows += [_waiting(wait) for wait in snapshot.waiting]
    room = max(1, height - 3)
    if len(rows) > room:
        rows[room - 1 :] = [Text(f"  and {len(rows) - room + 1} more", style="dim")]
    if rows and snapshot.blobs:
        rows.append(_total(snapshot, width, ascii_only))
    for row in rows:
        row.no_wrap = True
        row.rstrip()
        row.truncate(width - 1, overflow="crop" if ascii_only else "ellipsis")
    return rows


def _blob(blob: Blob, width: int, ascii_only: bool) -> Text:
    return _row(
        short(blob.digest),
        (blob.offset, blob.in_flight, blob.size),
        blob.speed,
        eta(blob.remaining, blob.speed),
        width,
        ascii_only,
    )


def _total(snapshot: Snapshot, width: int, ascii_only: bool) -> Text:
    in_flight = sum(blob.in_flight for blob in snapshot.active)
    speed = snapshot.speed if snapshot.active else None
    left = snapshot.eta if snapshot.active else None
    done = sum(blob.done for blob in snapshot.blobs)
    row = _row("total", (snapshot.done, in_flight, snapshot.total), speed, left, width, ascii_only)
    count = f"  {done} of {len(snapshot.blobs)} blobs"
    return row.append(count, style="dim") if row.cell_len + len(count) < width else row


def _row(
    label: str,
    amounts: tuple[int, int, int],
    speed: float | None,
    left: float | None,
    width: int,
    ascii_only: bool,
) -> Text:
    done, in_flight, total = amounts
    figures = f"{percent(done, total):>4}%  {human_share(done, total):<19}"
    figures += f"  {human_bytes(speed) + '/s' if speed is not None else '':>11}"
    figures += f"  {human_seconds(left) if left is not None else '':>6}"
    room = width - 1 - _LABEL - len(figures)
    bar = min(_BAR, room - _COUNT if room >= _COUNT + 20 else room)
    row = Text(f"{label:<{_LABEL}}")
    if bar >= _NARROWEST_BAR:
        row.append_text(_bar(done, in_flight, total, bar, ascii_only))
    return row.append(figures)


def _bar(done: int, in_flight: int, total: int, width: int, ascii_only: bool) -> Text:
    """Acknowledged bytes solid, bytes under way lighter, the rest faint."""
    full, moving, rest = ("#", "+", "-") if ascii_only else ("━", "╍", "─")
    solid = width * done // total if total else width
    light = (width * min(total, done + in_flight) // total if total else width) - solid
    return Text.assemble(
        (full * solid, "green"), (moving * light, "cyan"), (rest * (width - solid - light), "dim")
    )


def _preparing(layer: Preparing) -> Text:
    share = human_bytes(layer.done) if layer.total is None else human_share(layer.done, layer.total)
    speed = f"  {human_bytes(layer.speed)}/s" if layer.speed is not None else ""
    return Text(f"{short(layer.diff_id):<{_LABEL}}").append(f"compressing  {share}{speed}", style="dim")


def _waiting(wait: Waiting) -> Text:
    text = f"waiting {human_seconds(wait.seconds)}: {wait.reason}"
    return Text(f"{wait.what:<{_LABEL}}").append(text, style="yellow")

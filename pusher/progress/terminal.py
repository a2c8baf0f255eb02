"""Draw the live display of a terminal: one line per blob, redrawn in place."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from pusher.oci.digest import short
from pusher.progress.counters import BlobProgress, Counters, Event, Preparing, Snapshot, Waiting, eta
from pusher.progress.format import fit, human_left, human_wait, percent, shorten
from pusher.progress.lines import describe
from pusher.text import printable
from pusher.units import human_bytes, human_share

_LABEL: Final = 12
_BAR_GAP: Final = 2
_BAR: Final = 30
_NARROWEST_BAR: Final = 8
_COUNT: Final = len("  999 of 999+ blobs")


class Terminal:
    """Prints events, and draws a block with the current transfers below them."""

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
        self._drawn: tuple[list[Text], int] = ([], 0)
        self._live.start()
        # Live hides the cursor, and a killed process could not show it again.
        self._console.show_cursor(True)

    def render(self) -> None:
        """Print new events and redraw the block, if anything changed."""
        snapshot = self._counters.snapshot()
        events = self._counters.drain()
        for event in events:
            if line := describe(event, snapshot, single=self._single, each_blob=False):
                self._clear_row()
                whole, width = event.kind == "log", self._console.width
                if event.kind == "job-started" and len(line) >= width:
                    rows = _job_in_rows(event, width)
                else:
                    rows = fit(line, width, is_command=whole)
                self._console.print(Text(rows))
        width, height = self._console.size
        ascii_only = not self._console.encoding.startswith("utf")
        drawn = block(snapshot, width=width, height=height, ascii_only=ascii_only)
        if (drawn, width) != self._drawn:
            self._drawn = (drawn, width)
            self._live.update(Group(*drawn), refresh=True)
            # Ctrl-C is echoed at the cursor; at the end of a full row the echo would begin a new row.
            self._console.control(Control(ControlType.CARRIAGE_RETURN))

    def close(self) -> None:
        """Print the last events and remove the block."""
        self.render()
        self._clear_row()
        self._live.stop()

    def _clear_row(self) -> None:
        """Clear the row of the cursor: a terminal echoes a Ctrl-C there as ``^C``."""
        self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))


def _job_in_rows(event: Event, width: int) -> str:
    """Return the line of a job that was started with names that are too long for it: in two rows, without
    their middles."""
    job, image, destination = (printable(str(event.fields[name])) for name in ("job", "image", "destination"))
    first = shorten(f"Job {job}: {image}", width - 1)
    return first if image == destination else f"{first}\n{shorten(f'  -> {destination}', width - 1)}"


def block(snapshot: Snapshot, *, width: int, height: int, ascii_only: bool = False) -> list[Text]:
    """Return the rows below the events, each at most ``width`` wide, and at most ``height`` - 1 of them."""
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


def _blob(blob: BlobProgress, width: int, ascii_only: bool) -> Text:
    return _row(
        short(blob.digest),
        (blob.offset, blob.in_flight, blob.least_size),
        blob.speed,
        eta(blob.remaining, blob.speed),
        width,
        ascii_only,
        more=blob.size is None,
    )


def _total(snapshot: Snapshot, width: int, ascii_only: bool) -> Text:
    in_flight = sum(blob.in_flight for blob in snapshot.active)
    speed = snapshot.speed if snapshot.active else None
    left = snapshot.eta if snapshot.active and not snapshot.preparing else None
    done = sum(blob.done for blob in snapshot.blobs)
    amounts = snapshot.done, in_flight, snapshot.total
    more = not snapshot.is_total_known
    row = _row("total", amounts, speed, left, width, ascii_only, more=more)
    blobs = f"{len(snapshot.blobs)}{'+' if more else ''}"
    count = f"  {done} of {blobs} {'blob' if blobs == '1' else 'blobs'}"
    return row.append(count, style="dim") if row.cell_len + len(count) < width else row


def _row(
    label: str,
    amounts: tuple[int, int, int],
    speed: float | None,
    left: float | None,
    width: int,
    ascii_only: bool,
    *,
    more: bool = False,
) -> Text:
    """Return the columns of a blob or of the total; a narrow terminal has no bar, a narrower one no
    speed or amounts, the narrowest no time left."""
    done, in_flight, total = amounts
    sent = max(done, min(done + in_flight, total))
    known = "" if more else f"{percent(sent, total, is_done=done >= total)}%"  # an unknown total has no share
    share = f"{known:>5}"
    amount = f"  {human_share(sent, total) + ('+' if more else ''):<22}"
    pace = f"  {human_bytes(speed) + '/s' if speed is not None else '':>11}"
    rest = f"  {human_left(left) if left is not None else '':>6}"
    room = width - 1 - _LABEL - len(share)
    everything = amount + pace + rest
    bar = room - _BAR_GAP - len(everything)
    if bar < _NARROWEST_BAR:
        columns = next((c for c in (everything, amount + rest, pace + rest, rest) if len(c) <= room), "")
        name = max(1, min(_LABEL, width - 1 - len(share)))
        return Text(f"{label[:name]:<{name}}{share}{columns}")
    bar = min(_BAR, bar - _COUNT if bar >= _COUNT + 20 else bar)
    row = Text(f"{label:<{_LABEL + _BAR_GAP}}")
    return row.append_text(_bar(done, in_flight, total, bar, ascii_only)).append(share + everything)


def _bar(done: int, in_flight: int, total: int, width: int, ascii_only: bool) -> Text:
    """Draw acknowledged bytes solid, bytes in flight lighter, and the rest faint."""
    full, moving, rest = ("#", "+", "-") if ascii_only else ("━", "╍", "─")
    solid = width * min(total, done) // total if total else width
    light = (width * min(total, done + in_flight) // total if total else width) - solid
    return Text.assemble(
        (full * solid, "green"), (moving * light, "cyan"), (rest * (width - solid - light), "dim")
    )


def _preparing(layer: Preparing) -> Text:
    share = human_bytes(layer.done) if layer.total is None else human_share(layer.done, layer.total)
    speed = f"  {human_bytes(layer.speed)}/s" if layer.speed is not None else ""
    return Text(f"{short(layer.diff_id):<{_LABEL + _BAR_GAP}}").append(
        f"{layer.doing:<11}  {share}{speed}", style="dim"
    )


def _waiting(wait: Waiting) -> Text:
    pause = f" {human_wait(wait.seconds, wait.until)}" if wait.seconds >= 1 else ""
    text = f"waiting{pause}: {printable(wait.reason)}"
    return Text(f"{printable(wait.what):<{_LABEL + _BAR_GAP}}").append(text, style="yellow")

"""Jobs for people: the table of all, and one in detail."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pusher.oci.digest import short
from pusher.progress.format import human_bytes, human_seconds, human_share, percent
from pusher.store.records import JobRecord, JobState, JobTotals, LayerRecord
from pusher.text import printable, printable_lines

_PIPE: Final = 200
_OTHERS: Final = 80
"""Characters that the rest of a row needs: 48 for the figures, 32 for a note."""
_FIGURES: Final = 44
"""Characters of a narrow row's figures, beside the id: ``superseded      99%  999.9 / 999.9 MiB``."""
_LAYER: Final = 68
"""Characters of a layer's row with everything; narrower, it does without the diff ID and has a percentage."""
_STYLES: Final = {
    JobState.RUNNING: "cyan",
    JobState.WAITING: "yellow",
    JobState.PAUSED: "yellow",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "dim",
    JobState.SUPERSEDED: "dim",
}


@dataclass(frozen=True)
class Row:
    """A job with the sums over its layers."""

    job: JobRecord
    totals: JobTotals
    orphaned: bool = False
    """Its worker died; the next one takes it over."""
    again: bool = True
    """Where it failed: trying again may help."""
    profile: str = ""
    """Name of the registry's profile, as far as an upload was opened."""


def console() -> Console:
    """stdout as rich sees it; lines for a pipe are not cut to the width of a terminal that is not there."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE
    return Console(width=wide, highlight=False, markup=False, emoji=False)


def jobs_table(rows: Sequence[Row], *, now: datetime, width: int, header: bool = True) -> RenderableType:
    """One line a job where there is room, else its names and its note below it. Without ``header`` it goes on
    from another."""
    notes = [note(row, now) for row in rows]
    names = [_names(row.job, one_line=width >= _PIPE) for row in rows]
    longest = max((line.cell_len for name in names for line in name.split()), default=0)
    if longest + _OTHERS > width:
        return _narrow(rows, notes, width, header=header)
    table = _table("ID", "IMAGE", "STATE", "PROGRESS", "DONE/TOTAL", *(["NOTE"] if any(notes) else []))
    table.show_header = header
    table.columns[-1].no_wrap, table.columns[-1].overflow = False, "fold"
    for row, name, text in zip(rows, names, notes, strict=True):
        text = text if width < _PIPE else text.replace("\n", "; ")  # a pipe gets one line a job
        table.add_row(str(row.job.id), name, *_figures(row), *([Text(text)] if any(notes) else []))
    return table


def _narrow(rows: Sequence[Row], notes: Sequence[str], width: int, *, header: bool) -> Group:
    digits = max([2, *(len(str(row.job.id)) for row in rows)])
    wide = width >= _FIGURES + digits
    head, room = ("STATE      PROGRESS  DONE/TOTAL", 19) if wide else ("STATE         %  DONE/TOTAL", 15)
    parts: list[RenderableType] = []
    if header:
        parts.append(Text(f"{'ID':>{digits}}  {head}", style="bold"))
    for row, text in zip(rows, notes, strict=True):
        state, done, total = _figures(row)
        parts.append(
            Text.assemble(f"{row.job.id:>{digits}}  ", state, f"{done:>{room - len(state)}}  {total}")
        )
        for below in (_names(row.job), Text(text, style="dim")):
            if below:
                parts.append(Padding(below, (0, 0, 0, digits + 2), expand=False))
    return Group(*parts)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(
            name, no_wrap=True, justify="right" if name in ("ID", "PROGRESS", "LAYER") else "left"
        )
    return table


def _names(job: JobRecord, *, one_line: bool = False) -> Text:
    separator = " " if one_line else "\n"
    image, destination = printable(job.image), printable(job.destination)
    return Text(image if image == destination else f"{image}{separator}-> {destination}")


def _figures(row: Row) -> tuple[Text, str, str]:
    return Text(row.job.state, style=_STYLES.get(row.job.state, "")), share(row), amount(row.totals)


def share(row: Row) -> str:
    """How much of its bytes is done; nothing while it is not known how many there are."""
    if row.job.state is JobState.SUCCEEDED:
        return "100%"
    if not row.totals.bytes_total or not row.totals.sizes_known:
        return ""
    return f"{percent(row.totals.bytes_done, row.totals.bytes_total)}%"


def amount(totals: JobTotals) -> str:
    """``1.2 / 3.4 GiB``; ``+`` while layers that are not compressed yet will add to it."""
    if not totals.bytes_total and not totals.sizes_known:
        return ""
    return human_share(totals.bytes_done, totals.bytes_total) + ("" if totals.sizes_known else "+")


def note(row: Row, now: datetime) -> str:
    """What is worth knowing of a job beyond its state; what to do next has a line of its own."""
    job = row.job
    reason = printable(job.error.message) if job.error else ""
    match job.state:
        case JobState.WAITING:
            after = max(0.0, (job.next_try_at - now).total_seconds()) if job.next_try_at else 0.0
            when = f"next try in {human_seconds(after)}" if after else "next try with: pusher run"
            return "\n".join(filter(None, [reason, when]))
        case JobState.PAUSED:
            return f"continue with: pusher resume {job.id}"
        case JobState.RUNNING if row.orphaned:
            return f"cut off; {_goes_on(row.totals)}"
        case JobState.QUEUED if row.totals.bytes_done:
            return _goes_on(row.totals)
        case JobState.SUCCEEDED:
            return f"sha256:{short(job.digest)}" if job.digest else ""
        case JobState.SUPERSEDED:
            return f"by job {job.superseded_by}, which is newer"
        case JobState.FAILED:
            again = f"try again with: pusher retry {job.id}" if row.again else ""
            return "\n".join(filter(None, [reason, again]))
        case JobState.RUNNING:
            return ""
    return reason


def _goes_on(totals: JobTotals) -> str:
    """Where the next run goes on: what was cut off inside a chunk is lost at some registries."""
    goes_on = f"goes on at {human_bytes(totals.bytes_done)} with: pusher run"
    if not totals.bytes_at_risk:
        return goes_on
    lost = f"{human_bytes(totals.bytes_at_risk)} will be sent again"
    return f"{goes_on}; {lost}, for the registry keeps no upload that is cut off inside a chunk"


def details(row: Row, layers: Sequence[LayerRecord], *, now: datetime, width: int = _PIPE) -> Group:
    """Everything about one job."""
    job, totals = row.job, row.totals
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    done = " of ".join(part for part in (share(row), amount(totals)) if part)
    lines: list[tuple[str, str]] = [
        ("job", str(job.id)),
        ("image", job.image),
        ("destination", job.destination),
        ("profile", row.profile),
        ("state", ": ".join(filter(None, [job.state, note(row, now).replace("\n", "; ")]))),
        ("next try", local(job.next_try_at)),
        ("done", done.replace("% of ", "%, ")),
        ("sent", human_bytes(totals.bytes_sent)),
        ("in vain", human_bytes(totals.bytes_wasted) if totals.bytes_wasted else ""),
        ("priority", str(job.priority) if job.priority else ""),
        ("attempts", str(job.attempts) if job.attempts else ""),
        ("digest", job.digest or ""),
        ("hint", job.error.hint if job.error else ""),
        ("created", local(job.created_at)),
        ("started", local(job.started_at)),
        ("finished", local(job.finished_at)),
    ]
    for name, text in lines:
        if text:
            facts.add_row(name, Text(printable_lines(text)))
    return Group(facts, Text(), _layers_table(layers, narrow=width < _LAYER))


def _layers_table(layers: Sequence[LayerRecord], *, narrow: bool) -> Table:
    columns = ("BLOB", "STATE", "DONE") if narrow else ("DIFF ID", "BLOB", "STATE", "DONE/TOTAL")
    table = _table("LAYER", *columns)
    for layer in layers:
        size = "" if layer.size is None else human_share(layer.offset, layer.size)
        blob = short(layer.digest) if layer.digest else ""
        name = "config" if layer.position < 0 else str(layer.position + 1)
        if narrow:
            done = "" if layer.size is None else f"{percent(layer.offset, layer.size)}%"
            table.add_row(name, blob, layer.state, done)
        else:
            table.add_row(name, short(layer.diff_id), blob, layer.state, size)
    return table


def local(time: datetime | None) -> str:
    """A time in the reader's own zone."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")

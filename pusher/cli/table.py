"""Format jobs for users: a table of all, or one in detail."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from pusher.dataclass import dataclass
from pusher.oci.digest import short
from pusher.progress.format import local_time, percent
from pusher.store.records import JobBlob, JobRecord, JobState
from pusher.text import printable, printable_lines
from pusher.units import human_bytes, human_share
from pusher.worker.overview import JobOverview, amount, next_try, note, share

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
    from rich.table import Table

_Line: TypeAlias = Sequence[tuple[str, str]]
"""Texts, each with the name of its style."""
_PIPE: Final = 200
_OTHERS: Final = 80
"""Characters that the rest of a row needs: 48 for the figures, 32 for a note."""
_FIGURES: Final = 44
"""Characters of a narrow row's figures, beside the id: ``superseded      99%  999.9 / 999.9 MiB``."""
_LAYER: Final = 68
"""Characters of a layer's row with everything; narrower, it does without the diff ID and has a percentage."""
_CONFIG: Final = 1024 * 1024
"""Bytes of a job that may be its config's alone, and say nothing of the image, where it was not started."""
_MAYBE_NOT_STARTED: Final = frozenset({JobState.QUEUED, JobState.SUPERSEDED, JobState.CANCELLED})
_URGENCY: Final = {
    state: place
    for place, state in enumerate(
        (
            JobState.RUNNING,
            JobState.RECEIVING,
            JobState.WAITING,
            JobState.FAILED,
            JobState.PAUSED,
            JobState.QUEUED,
        )
    )
}
"""Which jobs are shown where there is no room for all."""
_STYLES: Final = {
    JobState.RECEIVING: "cyan",
    JobState.RUNNING: "cyan",
    JobState.WAITING: "yellow",
    JobState.PAUSED: "yellow",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "dim",
    JobState.SUPERSEDED: "dim",
}


def console() -> Console:
    """Return stdout for rich; lines for a pipe are not cut to the width of a terminal."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE
    return Console(width=wide, highlight=False, markup=False, emoji=False)


def print_unpadded(out: Console, content: RenderableType) -> None:
    """Print ``content`` without the blanks at the ends of lines with which rich fills its columns."""
    with out.capture() as captured:
        out.print(content)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=True)


def stdout_width() -> int:
    """Return the columns of stdout, as ``console`` has them."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return _PIPE


@dataclass(frozen=True)
class StyledLines:
    """Lines of texts with their styles, printed as they are.

    rich's own table measures and renders each cell several times: 30 s for 100,000 jobs.
    """

    lines: Sequence[_Line]

    def print(self) -> None:
        """Print the lines on stdout; rich is imported only where they have styles."""
        if sys.stdout.isatty() or "FORCE_COLOR" in os.environ:
            console().print(self, crop=False)  # no line is too long
        elif self.lines:
            click.echo("\n".join("".join(text for text, _ in line) for line in self.lines))

    def __rich_console__(self, console: Console, _options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for line in self.lines:
            for text, style in line:
                yield Segment(text, console.get_style(style) if style else None)
            yield Segment.line()


def jobs_table(rows: Sequence[JobOverview], *, now: datetime, width: int, header: bool = True) -> StyledLines:
    """Return a table with one line per job; without enough room, with its names and note below.

    Without ``header`` it continues another table.
    """
    notes = [note(row, now) for row in rows]
    names = [_names(row.job, one_line=width >= _PIPE) for row in rows]
    longest = max((_columns(name) for lines in names for name in lines), default=0)
    if longest + _OTHERS > width:
        return StyledLines([*_narrow_lines(rows, notes, width, header=header)])
    return StyledLines([*_wide_lines(rows, names, notes, width, header=header)])


def fitting_table(rows: Sequence[JobOverview], *, now: datetime, width: int, height: int) -> StyledLines:
    """Return a table of at most ``height`` lines: where not all jobs fit, of those where something happens or
    is wrong, and how many more there are."""
    table = jobs_table(rows, now=now, width=width)
    if len(table.lines) <= height:
        return table
    rows = sorted(rows, key=lambda row: (_URGENCY.get(row.job.state, len(_URGENCY)), row.job.id))
    for count in range(min(len(rows) - 1, height), 0, -1):
        table = jobs_table(rows[:count], now=now, width=width)
        if len(table.lines) < height:
            break
    states = Counter(str(row.job.state) for row in rows[count:])
    more = ", ".join(f"{number} {state}" for state, number in states.items())
    hidden = len(rows) - count
    said = f"and {hidden} more {'job' if hidden == 1 else 'jobs'}: {more}"
    return StyledLines([*table.lines[: height - 1], ((said[:width], "dim"),)])


def _wide_lines(
    rows: Sequence[JobOverview],
    names: Sequence[Sequence[str]],
    notes: Sequence[str],
    width: int,
    *,
    header: bool,
) -> Iterator[_Line]:
    figures = [_figures(row) for row in rows]
    heads = ("STATE", "PROGRESS", "DONE/TOTAL")
    digits = max([2, *(len(str(row.job.id)) for row in rows)])
    named = max([len("IMAGE"), *(_columns(name) for lines in names for name in lines)])
    states, shares, amounts = (
        max(len(text) for text in texts) for texts in zip(heads, *figures, strict=True)
    )
    machines = [_machine(row) for row in rows]
    hosts = max([len("MACHINE"), *map(_columns, machines)]) + 2 if any(machines) else 0
    room = width - digits - named - hosts - states - shares - amounts - 2 * 5

    def line(number: str, name: str, host: str, texts: Sequence[str], said: str, style: str) -> _Line:
        state, done, total = texts
        before = f"{number:>{digits}}  {name}{'':{named - _columns(name)}}  "
        if hosts:
            before += f"{host}{'':{hosts - _columns(host)}}"
        after = f"{'':{states - len(state)}}  {done:>{shares}}  {total:<{amounts}}  {said}"
        return (before, ""), (state, style), (after.rstrip(), "")

    if header:
        title = line("ID", "IMAGE", "MACHINE", heads, "NOTE" if any(notes) else "", "")
        yield (("".join(text for text, _ in title), "bold"),)
    for row, name, host, texts, text in zip(rows, names, machines, figures, notes, strict=True):
        # a pipe gets one line per job
        said = _wrap(text if width < _PIPE else text.replace("\n", "; "), room)
        first, *more = zip_longest(name, said, fillvalue="")
        yield line(str(row.job.id), first[0], host, texts, first[1], _STYLES.get(row.job.state, ""))
        for below, continued in more:
            yield line("", below, "", ("", "", ""), continued, "")


def _narrow_lines(
    rows: Sequence[JobOverview], notes: Sequence[str], width: int, *, header: bool
) -> Iterator[_Line]:
    digits = max([2, *(len(str(row.job.id)) for row in rows)])
    wide = width >= _FIGURES + digits
    head, room = ("STATE      PROGRESS  DONE/TOTAL", 19) if wide else ("STATE         %  DONE/TOTAL", 15)
    if header:
        yield ((f"{'ID':>{digits}}  {head}", "bold"),)
    indent = " " * (digits + 2)
    for row, text in zip(rows, notes, strict=True):
        state, done, total = _figures(row)
        share, style = f"{done:>{room - len(state)}}", _STYLES.get(row.job.state, "")
        fits = len(indent) + len(state) + len(share) + 2 + len(total) <= width
        yield (f"{row.job.id:>{digits}}  ", ""), (state, style), (f"{share}  {total}" if fits else share, "")
        host = f"on {_machine(row)}" if row.machine else ""
        names = "\n".join(_names(row.job))
        for below, style in (("" if fits else total, ""), (names, ""), (host, ""), (text, "dim")):
            for part in _wrap(below, width - len(indent)):
                if part:
                    yield (indent, ""), (part, style)


def _columns(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _wrap(text: str, width: int) -> list[str]:
    """Return the lines of a text; break long ones between words."""
    return [part for line in text.split("\n") for part in _wrap_line(line, width)]


def _wrap_line(text: str, width: int) -> list[str]:
    if _columns(text) <= width:
        return [text]
    from rich.console import Console
    from rich.text import Text

    measure = Console()  # asked for its tab size only
    return [line.plain.rstrip() for line in Text(text).wrap(measure, width, overflow="fold")]


def _table(*names: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(
            name, no_wrap=True, justify="right" if name in ("ID", "PROGRESS", "LAYER") else "left"
        )
    return table


def _names(job: JobRecord, *, one_line: bool = False) -> Sequence[str]:
    image, destination = printable(job.image), printable(job.destination)
    if image == destination:
        return (image,)
    return (f"{image} -> {destination}",) if one_line else (image, f"-> {destination}")


def _machine(row: JobOverview) -> str:
    return printable(row.machine.label) if row.machine else ""


def _figures(row: JobOverview) -> tuple[str, str, str]:
    job, totals = row.job, row.totals
    is_known = totals.sizes_known or totals.bytes_done or totals.bytes_total >= _CONFIG
    shown = amount(row) if is_known or job.state not in _MAYBE_NOT_STARTED else ""
    return str(job.state), share(row), shown


def job_details(row: JobOverview, layers: Sequence[JobBlob], *, now: datetime, width: int = _PIPE) -> Group:
    """Return everything about one job."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    job, totals = row.job, row.totals
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    done = " of ".join(part for part in _figures(row)[1:] if part)
    lines: list[tuple[str, str]] = [
        ("job", str(job.id)),
        ("image", job.image),
        ("destination", job.destination),
        ("profile", row.profile),
        ("machine", row.machine.label if row.machine else ""),
        ("state", ": ".join(filter(None, [job.state, note(row, now).replace("\n", "; ")]))),
        ("next try", format_time(None if row.hold else next_try(row, now))),
        ("done", done.replace("% of ", "%, ")),
        ("sent", human_bytes(totals.bytes_sent)),
        ("wasted", human_bytes(totals.bytes_wasted) if totals.bytes_wasted else ""),
        ("priority", str(job.priority) if job.priority else ""),
        ("attempts", str(job.attempts) if job.attempts else ""),
        ("digest", job.digest or ""),
        ("hint", job.error.hint if job.error else ""),
        ("created", format_time(job.created_at)),
        ("started", format_time(job.started_at)),
        ("finished", format_time(job.finished_at)),
    ]
    for name, text in lines:
        if text:
            facts.add_row(name, Text(printable_lines(text)))
    return Group(facts, Text(), _layers_table(layers, narrow=width < _LAYER))


def _layers_table(layers: Sequence[JobBlob], *, narrow: bool) -> Table:
    columns = ("BLOB", "STATE", "DONE") if narrow else ("DIFF ID", "BLOB", "STATE", "DONE/TOTAL")
    table = _table("LAYER", *columns)
    for layer in layers:
        if layer.size is not None:
            size = human_share(layer.offset, layer.size)
        else:  # it is being compressed
            size = f"{human_bytes(layer.offset)}+" if layer.offset else ""
        blob = short(layer.digest) if layer.digest else ""
        name = "config" if layer.is_config else str(layer.position)
        if narrow:
            done = "" if layer.size is None else f"{percent(layer.offset, layer.size)}%"
            table.add_row(name, blob, layer.state, done)
        else:
            table.add_row(name, short(layer.key), blob, layer.state, size)
    return table


def format_time(time: datetime | None) -> str:
    """Return a time in the local zone."""
    return "" if time is None else local_time(time)

"""Define the options that say how jobs are queued: labels, order, and when they start."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pusher.cli import completers
from pusher.cli.output import print_notice
from pusher.cli.store import parse_job_id
from pusher.errors import InvalidOption

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.store.records import JobRecord, Queueing
    from pusher.store.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_KEY: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_LONGEST_LABEL: Final = 256
_DELAY: Final = r"\+(?P<count>[0-9]{1,6})(?P<unit>[smhd])"
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CLOCK: Final = r"[0-9]{1,2}:[0-9]{2}"
_EXAMPLES: Final = "22:00, '2026-11-30 06:00', 2026-11-30T06:00:00Z or +2h"

label_option = click.option(
    "--label",
    "labels",
    metavar="KEY=VALUE",
    multiple=True,
    help="Label of the job, for pusher status --label. May be repeated.",
)
supersede_option = click.option(
    "--no-supersede",
    "keeps_older",
    is_flag=True,
    help="Keep unfinished older jobs for the same tag; the jobs set the tag in the order of their IDs.",
)


class _PriorityType(click.IntRange):
    name = "number from -1000 to 1000"


priority_type = _PriorityType(-1000, 1000)
_PRIORITY: Final = click.option(
    "--priority",
    type=priority_type,
    metavar="N",
    default=0,
    show_default=True,
    help="Jobs with a higher priority go first.",
)
_AFTER: Final = click.option(
    "--after",
    metavar="JOB",
    multiple=True,
    shell_complete=completers.jobs,
    help="Start once this job has succeeded.",
)
_NOT_BEFORE: Final = click.option(
    "--not-before", metavar="TIME", help=f"Do not start before this time: {_EXAMPLES}."
)
window_option = click.option(
    "--window",
    metavar="HOURS",
    help="Push it within these hours alone, of any day or of some: 22:00-06:00, "
    "'Mon-Fri 22:00-06:00,Sat-Sun'.",
)


def queueing_options(function: F) -> F:
    """Add all options of ``read_queueing``."""
    for option in (window_option, _NOT_BEFORE, _AFTER, _PRIORITY, supersede_option, label_option):
        function = option(function)
    return function


def read_queueing(flags: Mapping[str, Any]) -> Queueing:
    """Return how the jobs are queued. Raises InvalidOption."""
    from pusher.config.window import Window
    from pusher.store.records import Queueing

    after, window = dict.fromkeys(flags.get("after", ())), flags["window"]
    if len(after) > 1:
        raise InvalidOption(
            f"--after names {len(after)} jobs: {', '.join(after)}",
            hint="give one; to wait for several, make them a chain, each --after the one before",
        )
    not_before, now = flags.get("not_before"), datetime.now().astimezone()
    not_before = None if not_before is None else parse_time(not_before, now)
    if not_before is not None and not_before <= now:
        print_notice(f"note: --not-before {flags['not_before']} is past, so it holds nothing back")
    return Queueing(
        priority=flags.get("priority", 0),
        keeps_older=flags["keeps_older"],
        labels=read_labels(flags["labels"]),
        after=next(map(parse_job_id, after), None),
        not_before=not_before,
        window=None if window is None else str(Window.parse(window)),
    )


def advise_start(store: Store, jobs: Sequence[JobRecord], settings: Settings) -> str:
    """Return when jobs that are queued alike start, and what starts them."""
    from pusher.worker.background import find_background_worker
    from pusher.worker.job_holds import JobHolds
    from pusher.worker.job_machines import JobMachines

    its = "It" if len(jobs) == 1 else "They"
    hold = JobHolds(store, jobs[:1]).of(jobs[0]) if jobs else None
    held = hold.text if hold else ""
    if len(jobs) > 1:
        held = held.replace("starts", "start", 1)
    if hold is not None and hold.needs_user:
        return f"{its} {held}; {hold.advice}"
    if (worker := find_background_worker(settings.home)) is not None:
        start = f"{its} {held}; the" if held else "The"
        them = "it" if len(jobs) == 1 else "them"
        return f"{start} worker in the background (pid {worker.pid}) pushes {them}."
    machines = JobMachines(store, settings.workers, jobs[:1])
    if jobs and machines.has_worker(jobs[0]):
        start = f"{its} {held}; a" if held else "A"
        takes = "takes it" if len(jobs) == 1 else "takes them"
        return f"{start} running worker {takes} in turn; if none does: pusher run"
    if held:
        return f"{its} {held}, with: pusher run" + ("" if hold and hold.ends_in_run else " --forever")
    return f"Start {'it' if len(jobs) == 1 else 'them'} with: pusher run"


def read_labels(texts: Sequence[str]) -> dict[str, str]:
    """Read ``KEY=VALUE``; of several with one key the last counts. Raises InvalidOption."""
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(_KEY, key) or len(text) > _LONGEST_LABEL or not value.isprintable():
            raise InvalidOption(
                f"--label {text[:_LONGEST_LABEL]!r} is not KEY=VALUE",
                hint="a key has letters, digits, '.', '_', '/' and '-': --label team=web",
            )
        labels[key] = value
    return labels


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that ``text`` means: a date and time, a delay from ``now``, or the next time that a
    clock shows it. Without a zone it is local time. Raises InvalidOption."""
    if delay := re.fullmatch(_DELAY, text):
        return now + timedelta(**{_UNITS[delay["unit"]]: int(delay["count"])})
    try:
        if re.fullmatch(_CLOCK, text):
            hours, minutes = map(int, text.split(":"))
            found = now.replace(hour=hours, minute=minutes, second=0, microsecond=0)
            if found <= now:
                found += timedelta(days=1)
            return found.replace(tzinfo=None).astimezone()  # perhaps in another offset than today's
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is not None else found.astimezone()
    except (ValueError, OverflowError, OSError):
        raise InvalidOption(
            f"--not-before {text!r} is not a time", hint=f"write it like {_EXAMPLES}"
        ) from None

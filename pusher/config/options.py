"""The table of settings: flags, variables, ``pusher.toml`` and ``pusher config`` all come from it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pusher.config import values
from pusher.config.timetable import parse_timetable

LINK: Final = "Link"
REGISTRY: Final = "Registry and TLS"
STORAGE: Final = "Storage"
EVERYDAY: Final = ""
"""Groups of options in ``--help``; the last has no heading."""

COMPRESSIONS: Final[Mapping[str, str]] = {
    "keep": "gzip, unless the registry has the layer in another form",
    "gzip": "what everything can pull",
    "zstd": "smaller and faster; old tools cannot pull it",
    "none": "layers as they are",
    "auto": "what arrives first over this link",
}
"""What ``compression`` may be, with what it means, for people."""


@dataclass(frozen=True)
class Option:
    """One setting. Its name is the key in ``pusher.toml``; flag and variable are made of it."""

    name: str
    convert: Callable[[str, str], Any]
    """From text, and where it stands for complaints; raises InvalidOption."""
    metavar: str
    help: str
    default: str | None = None
    """As one would write it; None: nothing is set."""
    group: str = EVERYDAY
    per_registry: bool = False
    """May stand in a ``[registries."host"]`` table."""
    has_flag: bool = True
    in_file: bool = True
    old_variable: str | None = None
    """Of serverless-registry's push script."""
    table_convert: Callable[[str, str], Any] | None = None
    """``convert`` for a registry's table, where it differs."""
    without: str = "none"
    """What holds where nothing is set, for people."""
    variables: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        old = () if self.old_variable is None else (self.old_variable,)
        object.__setattr__(self, "variables", (f"PUSHER_{self.name.upper()}", *old))

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def is_switch(self) -> bool:
        return self.convert is values.switch

    @property
    def is_list(self) -> bool:
        return self.convert is values.hosts


OPTIONS: Final = (
    Option("parallel", values.integer(1, 64), "N", "Blobs sent at a time.", "4"),
    Option(
        "limit_rate",
        parse_timetable,
        "RATE",
        "Bytes a second for all uploads together, like 2M or '08:00-18:00=2M,off'.",
        without="no limit",
    ),
    Option(
        "username",
        values.plain,
        "USER",
        "User at the registry.",
        per_registry=True,
        old_variable="USERNAME_REGISTRY",
    ),
    Option("password", values.plain, "TEXT", "Password of that user.", has_flag=False, in_file=False),
    Option(
        "chunk_size",
        values.chunk_size,
        "SIZE",
        "Largest chunk, like 50MiB or 100MB; auto: what suits link and registry.",
        "auto",
        group=LINK,
        per_registry=True,
    ),
    Option("connect_timeout", values.seconds, "TIME", "Longest wait for a connection.", "15s", group=LINK),
    Option(
        "stall_timeout", values.seconds, "TIME", "Longest silence while bytes are sent.", "60s", group=LINK
    ),
    Option("answer_timeout", values.seconds, "TIME", "Longest wait for an answer.", "2m", group=LINK),
    Option(
        "commit_timeout",
        values.seconds,
        "TIME",
        "Longest wait for the answer that closes an upload.",
        "15m",
        group=LINK,
    ),
    Option(
        "give_up_after",
        values.seconds,
        "TIME",
        "End a run that got nothing done for so long, with exit code 5.",
        "30m",
        group=LINK,
    ),
    Option(
        "registry",
        values.place,
        "HOST[/NAMESPACE]",
        "Where images go whose names say no registry; --to on the command line.",
        has_flag=False,
        without="docker.io",
    ),
    Option(
        "profile",
        values.plain,
        "NAME",
        "What the registry is taken for, whatever it looks like.",
        group=REGISTRY,
        per_registry=True,
        without="found out",
    ),
    Option(
        "plain_http",
        values.switch,
        "BOOL",
        "Allow http without TLS beyond this machine.",
        "false",
        group=REGISTRY,
        per_registry=True,
        old_variable="INSECURE_HTTP_PUSH",
    ),
    Option(
        "insecure",
        values.hosts,
        "REGISTRY",
        "Do not verify this registry's certificate; may be repeated.",
        group=REGISTRY,
        per_registry=True,
        table_convert=values.switch,
    ),
    Option(
        "ca_cert",
        values.path,
        "FILE",
        "Trust these certificate authorities too (PEM).",
        group=REGISTRY,
        per_registry=True,
    ),
    Option(
        "compression",
        values.one_of(*COMPRESSIONS),
        "KIND",
        "For layers that are not compressed yet: gzip, zstd, none, auto (what arrives first), or keep (gzip, "
        "unless the registry has the layer in another form).",
        "keep",
        group=STORAGE,
    ),
    Option(
        "compression_level",
        values.integer(1, 19),
        "N",
        "1 to 9 for gzip (usually 2), 1 to 19 for zstd (usually 3).",
        group=STORAGE,
        without="the usual one",
    ),
    Option(
        "compression_threads",
        values.integer(1, 64),
        "N",
        "Processors that compress one layer; the bytes do not depend on it.",
        group=STORAGE,
        without="all",
    ),
    Option(
        "spool_limit",
        values.size(0),
        "SIZE",
        "What blobs that no job needs may keep on disk.",
        "20GiB",
        group=STORAGE,
    ),
    Option(
        "lease",
        values.seconds,
        "TIME",
        "After this silence a worker on another machine is taken for dead.",
        "30s",
        group=STORAGE,
    ),
    # Where the jobs are is no flag: every command has to look at the same place.
    Option(
        "home", values.path, "FOLDER", "Folder of the job store and the compressed blobs.", has_flag=False
    ),
    Option(
        "database_url",
        values.plain,
        "URL",
        "Job store: a PostgreSQL URL, or sqlite:////PATH.",
        has_flag=False,
    ),
)

BY_NAME: Final = {option.name: option for option in OPTIONS}

_VARIABLES: Final = [variable for option in OPTIONS for variable in option.variables]
OTHER_VARIABLES: Final[Mapping[str, str]] = {
    "PUSHER_CONFIG": "the path of pusher.toml",
    "PUSHER_DEBUG": "1: as --debug",
    "PUSHER_DOCKER_ROOT": "Docker's data root, for docker-storage:",
    "PUSHER_LOG_JSON": "1: as --log-json",
    "PUSHER_VERBOSE": "1 or 2: as -v or -vv",
}
"""Variables that are no settings, with what they are for."""
_TESTS: Final = "PUSHER_TEST_"
"""What the tests of pusher are told."""


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables with pusher's prefix that nothing reads, with the one that was probably meant, or ""."""
    known = [*_VARIABLES, *OTHER_VARIABLES]
    strange = [
        name for name in environ if name.startswith("PUSHER_") and name not in known and _TESTS not in name
    ]
    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in strange}
    return {name: "".join(matches) for name, matches in sorted(near.items())}

"""Settings: flag > environment ``PUSHER_*`` > default."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Timeouts:
    """Seconds; three different things (a slow link that moves is never cut)."""

    connect: float = 15.0
    """Until a connection stands."""
    stall: float = 60.0
    """Without a single byte moving while a body is sent."""
    answer: float = 120.0
    """Between the last byte of a request and the answer."""
    commit: float = 900.0
    """The same for the request that closes an upload: registries copy gigabytes before they answer."""


@dataclass(frozen=True)
class Settings:
    """Everything a command needs to know, resolved once at its start."""

    home: Path
    database_url: str
    parallel: int = 4
    """Blob uploads at a time, over all jobs of one worker."""
    chunk_size: int | None = None
    """Bytes; None leaves it to the registry's limits and what was learned of it."""
    compression_level: int = 2
    """gzip, 1 to 9: 1 to 3 are ISA-L's, 4 to 9 zlib's."""
    spool_limit: int = 20 * 1024 * MIB
    """Bytes that blobs nobody needs any more may keep on disk."""
    plain_http: bool = False
    """Plain http allowed for registries beyond this machine."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    give_up_after: float = 1800.0
    """Seconds without any progress after which a run that is not ``--forever`` ends with exit code 5."""
    lease: float = 30.0
    """Seconds after which a worker that does not renew its lease is taken for dead."""

    @property
    def spool(self) -> Path:
        """Folder of the compressed blobs."""
        return self.home / "spool"

    @property
    def workers(self) -> Path:
        """Folder of the lock files by which a dead worker of this host is told from a living one."""
        return self.home / "workers"

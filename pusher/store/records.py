"""Define the records that the store returns: plain values, without a database connection.

Times are aware datetimes in UTC; sizes and offsets are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pusher.dataclass import dataclass

RECEIVING_SOURCE: Final = "receiving"
"""``kind`` in the source of a job without a manifest: ``folder`` has its blobs, in folders by algorithm."""


class JobState(StrEnum):
    """The states of a job. ``waiting``: for the network or a back-off, until ``next_try_at``."""

    RECEIVING = "receiving"
    """A client sends the image to ``pusher serve``: blobs are sent on as they come, before the manifest."""
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    """A newer job pushes to the same tag."""


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SUPERSEDED})
UNFINISHED_STATES = frozenset(JobState) - FINAL_STATES
RUNNABLE_STATES = UNFINISHED_STATES - {JobState.PAUSED, JobState.RECEIVING}


class BlobKind(StrEnum):
    """The role of a blob in the image of its job."""

    CONFIG = "config"
    """The image's config; of several manifests, that of the first."""
    LAYER = "layer"
    """A layer: its diff ID is known, its blob perhaps not yet."""
    OTHER = "other"
    """Another blob of an image with manifests: a further config, a part of an artifact, a layer with an
    unknown diff ID."""


class BlobState(StrEnum):
    """The state of a job's blob. In the last three it need not be sent any more."""

    PENDING = "pending"
    """Its digest is not known, or its bytes are not in the spool yet."""
    READY = "ready"
    """Its digest and size are known and its bytes are on disk."""
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    MOUNTED = "mounted"
    EXISTS = "exists"


DONE_STATES = frozenset({BlobState.UPLOADED, BlobState.MOUNTED, BlobState.EXISTS})


class UploadState(StrEnum):
    """``open``: a session takes chunks. ``closing``: the closing PUT may have been sent.
    ``present``: the registry holds the blob. ``idle``: no session. ``abandoned``: to be deleted at the
    registry."""

    IDLE = "idle"
    OPEN = "open"
    CLOSING = "closing"
    PRESENT = "present"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class StoredError:
    """The last error of a job, as shown to the user."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class NewBlob:
    """A blob of a new job; digest and size are known where the source has the final blob."""

    diff_id: str | None
    """None for what is not a layer."""
    media_type: str | None = None
    digest: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class JobDocument:
    """A manifest or index of a job's image, whose bytes the store keeps under its digest."""

    digest: str
    diff_ids: tuple[str, ...] | None = None
    """None if it is pushed unchanged; of a draft, the layers whose blobs it will list (an index: none)."""

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        return {"digest": self.digest, "diff_ids": None if self.diff_ids is None else list(self.diff_ids)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobDocument:
        """Read the result of ``to_json``."""
        return cls(data["digest"], None if data["diff_ids"] is None else tuple(data["diff_ids"]))


@dataclass(frozen=True)
class Queueing:
    """How a job is queued, as in NewJob."""

    priority: int = 0
    keeps_older: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    not_before: datetime | None = None
    window: str | None = None


@dataclass(frozen=True)
class NewJob:
    """A job to be queued."""

    image: str
    """As the user typed it."""
    source: Mapping[str, Any]
    """The pin of its source, as JSON values."""
    config_digest: str
    registry: str
    repository: str
    tag: str | None
    blobs: tuple[NewBlob, ...]
    """Without the config."""
    config_size: int | None = None
    priority: int = 0
    keeps_older: bool = False
    """Older jobs of the same tag continue and set it first; otherwise they are superseded."""
    options: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    """``compression``, ``compression_level``."""
    documents: tuple[JobDocument, ...] = ()
    """Where the source has manifests; the root is the last."""
    labels: Mapping[str, str] = field(default_factory=dict)
    after: int | None = None
    """The job starts once that one has succeeded."""
    not_before: datetime | None = None
    window: str | None = None
    """The hours in which it may be pushed, as ``config.window`` reads them; None: always."""
    machine: str | None = None
    """ID of the machine that has the image; None if any may work on the job."""
    spool: str | None = None
    """ID of the spool that has the image, if machines may share it: those may work on the job, too."""


@dataclass(frozen=True)
class JobBlob:
    """One blob of a job."""

    job_id: int
    position: int
    """In the image: the config is 0, the lowest layer 1."""
    kind: BlobKind
    diff_id: str | None
    """Of a layer, else None."""
    media_type: str | None
    digest: str | None
    size: int | None
    state: BlobState
    offset: int
    """Bytes of the blob that the registry acknowledged (its size once it is done)."""
    bytes_sent: int
    """Body bytes sent for it by this job, resends included."""
    bytes_wasted: int
    """Those of them that no registry kept: of interrupted chunks and lost sessions."""

    @property
    def is_config(self) -> bool:
        """Whether it is the image's config."""
        return self.kind is BlobKind.CONFIG

    @property
    def key(self) -> str:
        """The diff ID of a layer, else the digest; known before the digest of a layer is."""
        return self.diff_id or self.digest or ""


@dataclass(frozen=True)
class JobRecord:
    """One job."""

    id: int
    image: str
    source: Mapping[str, Any]
    config_digest: str
    registry: str
    repository: str
    tag: str | None
    state: JobState
    priority: int
    attempts: int
    options: Mapping[str, str | int | bool | None]
    documents: tuple[JobDocument, ...]
    digest: str | None
    """Digest of the pushed manifest, once succeeded."""
    bytes_sent: int
    """Body bytes sent for what is not a blob (manifests)."""
    error: StoredError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    next_try_at: datetime | None
    lease_owner: str | None
    lease_token: int
    lease_expires_at: datetime | None
    keeps_older: bool
    superseded_by: int | None
    """The newer job for the same tag, once superseded."""
    waiting_since: datetime | None
    """When it began to wait, if it has made no progress since."""
    labels: Mapping[str, str]
    after: int | None
    """The job starts once that one has succeeded."""
    not_before: datetime | None
    window: str | None
    """As in NewJob."""
    speed: int | None
    """Bytes a second that its worker sends, where it was measured."""
    in_flight: int | None
    """Bytes sent of its chunks in flight then."""
    machine: str | None
    """ID of the machine that has the image; None if any may work on the job."""
    spool: str | None
    """ID of the spool that has all blobs of the image: machines that share it may work on the job, too."""

    def has_lapsed(self, now: datetime) -> bool:
        """Return whether its worker has not renewed the lease in time."""
        return self.lease_expires_at is not None and self.lease_expires_at <= now

    def is_for(self, machine: Machine) -> bool:
        """Return whether a machine may work on the job."""
        return self.machine in (None, machine.id) or (self.spool is not None and self.spool == machine.spool)

    @property
    def has_manifest(self) -> bool:
        """Whether the image is known whole; else the client of ``pusher serve`` still sends it."""
        return self.config_digest != ""

    @property
    def destination(self) -> str:
        """The full reference, as shown to people."""
        return f"{self.registry}/{self.repository}" + (f":{self.tag}" if self.tag else "")


@dataclass(frozen=True)
class Machine:
    """A machine that uses the job store: a PUSHER_HOME on a host."""

    id: str
    name: str
    """Of the host."""
    home: str
    spool: str | None = None
    """ID of its spool, if that may be shared with other machines."""


@dataclass(frozen=True)
class JobTotals:
    """Sums over a job's blobs, for the status table."""

    bytes_total: int
    """Of the blobs whose size is known, and what is done of the others."""
    bytes_done: int
    """Acknowledged, mounted or already there."""
    bytes_sent: int
    bytes_wasted: int
    """Part of ``bytes_sent`` that no registry kept."""
    bytes_at_risk: int
    """Part of ``bytes_done`` that is lost unless it is being sent now: it was interrupted inside a chunk at a
    registry that restarts the blob after that."""
    sizes_known: bool
    """False while some layer is not compressed yet, so that ``bytes_total`` will still grow."""

    def unattended(self) -> JobTotals:
        """Return the sums for a job without a worker, whose bytes at risk are lost."""
        return replace(self, bytes_done=self.bytes_done - self.bytes_at_risk)


@dataclass(frozen=True)
class UploadRecord:
    """The one upload of a blob to a repository, shared by every job that needs it."""

    id: int
    registry: str
    repository: str
    digest: str
    """``provisional_digest`` while the layer is being compressed."""
    state: UploadState
    location: str | None = field(repr=False)
    """Absolute URL of the session; its query may carry secrets, never show it."""
    offset: int
    in_flight: int
    """Length of the chunk in flight: stored before it is sent, 0 once acknowledged."""
    chunk_size: int | None
    min_chunk: int | None
    max_chunk: int | None
    profile: str | None
    furthest: int | None
    """Largest number of bytes of the blob that a session has held."""
    losses: int | None
    """Sessions of the blob that were lost."""
    restarts: bool | None
    """Whether a connection that breaks inside a chunk costs, or may cost, the session."""
    compression: str | None
    """Kind and level of an unfinished blob, like ``gzip 2``."""
    prefix_size: int | None
    """Bytes of an unfinished blob that were sent, or were about to be."""
    prefix_sha256: str | None
    """Their hash in hex: only a blob that begins with them may continue the session."""
    opened_at: datetime | None
    used_at: datetime | None
    lease_owner: str | None
    lease_token: int


@dataclass(frozen=True)
class RegistryFacts:
    """The facts learned about a registry."""

    registry: str
    max_chunk: int | None = None
    """Largest chunk known to pass, after a 413."""
    uplink: float | None = None
    """Bytes a second of one upload."""
    profile: str | None = None
    carries: float | None = None
    """Bytes that the link carries between two breaks."""
    breaks: int | None = None
    """Breaks of the link since it was last stable for long."""
    limited_at: datetime | None = None
    """When ``max_chunk`` or a way of sending was learned."""
    link_rate: float | None = None
    """Bytes a second of all uploads together."""
    gzip_level: int | None = None
    """The level that the rate of the link got last."""


@dataclass(frozen=True)
class DeadSession:
    """A session at a registry that will not be used again."""

    id: int
    registry: str
    repository: str
    location: str = field(repr=False)
    """Absolute URL, which may carry secrets."""
    tries: int
    """Failed tries to delete it."""


@dataclass(frozen=True)
class EventRecord:
    """One line of a job's history."""

    job_id: int
    at: datetime
    kind: str
    """A job state, or ``session-lost``, ``chunk-halved``, ``note`` and the like."""
    message: str

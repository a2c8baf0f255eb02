"""What the worker tells about its work; every display implements it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """All methods may be called from any thread and never raise or block on output."""

    def job_started(self, job_id: int, image: str, destination: str) -> None:
        """A job was claimed."""

    def job_ended(self, job_id: int, state: str, message: str, *, resumes: bool = True) -> None:
        """A job left this worker: ``succeeded``, ``failed``, ``waiting``, ``queued``, ``paused``, ...

        ``message`` is a sentence for people: the digest reference, the error, when it is tried again.
        ``resumes`` is False for a job that waits for the user, so that this run may end without it.
        """

    def preparing(
        self, job_id: int, diff_id: str, done: int, total: int | None, doing: str = "compressing"
    ) -> None:
        """``done`` of ``total`` uncompressed bytes of a layer are read and compressed; or so many bytes of
        its blob are copied as they are (``doing`` is ``reading``), or have come from another registry
        (``fetching``)."""

    def prepared(self, job_id: int, diff_id: str, digest: str, size: int) -> None:
        """A layer's blob is on disk: ``size`` compressed bytes."""

    def blob_started(self, job_id: int, digest: str, size: int, offset: int) -> None:
        """An upload begins, or goes on at ``offset``."""

    def blob_sending(self, digest: str, in_flight: int) -> None:
        """``in_flight`` bytes of the chunk that is being sent have left; 0 when its fate is decided."""

    def blob_acknowledged(self, digest: str, offset: int) -> None:
        """The registry holds ``offset`` bytes. It may be smaller than before: a lost session rewinds."""

    def blob_done(self, job_id: int, digest: str, size: int, how: str) -> None:
        """``how``: uploaded, mounted, exists."""

    def waiting(self, what: str, seconds: float, reason: str) -> None:
        """``what`` (a blob's short digest, ``job 3``, ``network``) tries again in ``seconds``."""

    def note(self, message: str) -> None:
        """A sentence worth reading: a session was lost, chunks were halved, a registry's warning."""

"""Define the interface through which the worker reports progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress. Its methods can be called from any thread; they never raise or block."""

    def job_started(self, job_id: int, image: str, destination: str) -> None:
        """A job was claimed."""

    def job_ended(self, job_id: int, state: str, message: str, *, resumes: bool = True) -> None:
        """A job ended in this worker: ``succeeded``, ``failed``, ``waiting``, ``queued``, ``paused``, ...

        ``message`` is a sentence for users: the digest reference, the error, the time of the retry.
        ``resumes`` is False for a job that waits for the user; the run may end before it.
        """

    def preparing(
        self, job_id: int, diff_id: str, done: int, total: int | None, doing: str = "compressing"
    ) -> None:
        """``done`` of ``total`` uncompressed bytes of a layer are compressed; or ``done`` bytes of its blob
        are copied unchanged (``doing`` is ``reading``), or received from another registry (``fetching``)."""

    def prepared(
        self, job_id: int, diff_id: str, digest: str, size: int, compression: str | None = None
    ) -> None:
        """A layer's blob is on disk: ``size`` compressed bytes; ``compression`` is kind and level, such as
        ``gzip 9``, None if it came compressed."""

    def blob_started(self, job_id: int, digest: str, size: int | None, offset: int) -> None:
        """An upload starts, or resumes at ``offset``. Of a layer that is still being compressed, ``size`` is
        None and ``digest`` a ``provisional_digest``, until ``prepared`` is called."""

    def blob_sending(self, job_id: int, digest: str, in_flight: int) -> None:
        """``in_flight`` bytes of the current chunk were sent; 0 once the chunk was acknowledged or lost."""

    def blob_acknowledged(self, job_id: int, digest: str, offset: int) -> None:
        """The registry has ``offset`` bytes, which can be fewer than before if a session was lost."""

    def blob_done(self, job_id: int, digest: str, size: int, how: str) -> None:
        """``how``: uploaded, mounted, exists."""

    def waiting(
        self,
        what: str,
        seconds: float,
        reason: str,
        *,
        fault: str = "",
        registry: str = "",
        job: int | None = None,
    ) -> None:
        """``what`` (a blob's digest, a layer's diff ID, ``job 3``, ``network``) is retried in ``seconds``.

        ``fault``: the code of the error, if one is why, and ``registry`` where it occurred. ``job``:
        that of the blob.
        """

    def note(self, message: str) -> None:
        """A message for the user: a session was lost, chunks were halved, a registry's warning."""

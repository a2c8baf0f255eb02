"""Send the closing PUT of an upload, and find out what a failed one did."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import ConnectionBroken, DigestRejected, PusherError, RegistryBusy, RegistryStalled
from pusher.registry.answers import is_final, is_size_refusal, read_message, refusal
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobDamaged, BlobFile, Body, UploadObserver
from pusher.registry.intermediaries import CLOSING, is_stored
from pusher.registry.upload.session import Journal, Session
from pusher.registry.upload.verdicts import GATEWAY_TIMEOUTS, PAUSE

_MAX_LOOKS: Final = 3
_LOOK_PAUSE: Final = 5.0
"""HEAD requests, and seconds between them, while the registry may still be assembling the blob."""
_MAX_FAILED: Final = 3
"""Complete uploads with a failed closing PUT after which the registry is assumed to refuse the blob."""


@dataclass(frozen=True)
class Stored:
    """The registry has the blob."""

    sent: int | None = None
    """Bytes of the PUT's body, where its response acknowledged them."""


@dataclass(frozen=True)
class BodyTooLarge:
    """413: an intermediary refused the PUT before the registry saw it."""

    answer: Answer


@dataclass(frozen=True)
class CloseRefused:
    """The session cannot be closed and cannot be used any more; ``error`` says why."""

    error: PusherError


class SessionCloser:
    """Closes the sessions of one blob's upload: with an empty PUT, the last chunk or the whole blob."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        blob: BlobFile,
        journal: Journal,
        observer: UploadObserver,
    ) -> None:
        self._client = client
        self._repository = repository
        self._blob = blob
        self._journal = journal
        self._observer = observer
        self._looks_left = 0  # for a blob that the registry may still be assembling
        self._failed = 0
        self.failure: PusherError | None = None
        """Why the present session's closing PUT failed, if it did."""
        self.refused = False
        """Whether the registry itself refused it (4xx), rather than failing or an intermediary."""
        self.sent_before_break = 0
        """Bytes of the last PUT's body that were sent when the connection broke."""

    def close(self, session: Session) -> Stored | BodyTooLarge | CloseRefused:
        """Send the remaining bytes and the digest. Raises errors that are worth a retry."""
        rest = self._blob.size - session.offset
        session = replace(session, in_flight=rest, closing=True)
        self._journal.record_closing(session)
        body = Body(self._blob, session.offset, rest, self._observer) if rest else None
        answer = self._exchange(session, body)
        if is_stored(answer, self._blob.digest):
            return Stored(body.transmitted if body else None)
        if body is not None:
            self._journal.count_sent(body.transmitted)
        if is_size_refusal(answer):
            return BodyTooLarge(answer)
        if not answer.ok:
            return self._judge_refusal(answer)
        if not self.has_blob():
            raise self._client.unconfirmed_error(answer, CLOSING)
        return Stored()

    def _exchange(self, session: Session, body: Body | None) -> Answer:
        self.sent_before_break = 0
        try:
            return self._client.close_upload(
                self._repository, session.location, self._blob.digest, body, session.offset
            )
        except (PusherError, BlobDamaged) as error:
            self._journal.count_sent(body.transmitted if body else 0)
            if isinstance(error, RegistryStalled):
                self._looks_left = _MAX_LOOKS
            elif isinstance(error, ConnectionBroken) and body is not None:
                self.sent_before_break = body.sent
            raise
        finally:
            self._observer.report_sent(0)

    def wait_for_commit(self) -> None:
        """Raise RegistryBusy while the registry may still be assembling the blob: copying gigabytes takes
        minutes, and sending them again longer."""
        if self._looks_left:
            self._looks_left -= 1
            raise RegistryBusy(
                f"{self._client.registry} has not assembled the blob yet", retry_after=_LOOK_PAUSE
            )

    def _judge_refusal(self, answer: Answer) -> Stored | CloseRefused:
        """Return what a refused PUT means: the blob is stored, the session lost, or an intermediary refused.

        First try what sends no byte again. A session whose second closing PUT fails as well is lost,
        whatever its status says (serverless-registry, src/registry/r2.ts).
        """
        error = refusal(answer, doing=CLOSING)
        if answer.status in (401, 403) or is_final(answer) or isinstance(error, RegistryBusy):
            raise error  # nothing was tried: the session is as good as before
        codes = read_message(answer).codes
        first, self.failure = self.failure is None, error
        first = first or self._client.is_outage(answer, CLOSING)
        if first and answer.status in PAUSE and "DIGEST_INVALID" not in codes:
            self._looks_left = _MAX_LOOKS if answer.status in GATEWAY_TIMEOUTS else 0
            raise error
        # the second one may be refused because the first one worked
        # (https://github.com/GoogleContainerTools/jib/issues/4301)
        if self.has_blob():
            return Stored()
        self.refused = answer.status < 500 and bool(codes)
        return CloseRefused(error)

    def has_blob(self) -> bool:
        """Return whether the registry has the blob."""
        return self._client.blob_exists(self._repository, self._blob.digest, self._blob.size)

    def count_lost_session(self) -> None:
        """Count a failed complete upload if the lost session's closing PUT had failed.

        Raises BlobDamaged if the bytes on disk do not match the digest any more, DigestRejected after several
        such uploads.
        """
        error, self.failure, self.refused = self.failure, None, False
        if error is None:
            return
        self._failed += 1
        if not self._blob.is_intact():
            raise BlobDamaged(self._blob.digest)
        if self._failed >= _MAX_FAILED:
            raise DigestRejected(
                f"{self._client.registry} could not assemble the blob {self._blob.digest} in "
                f"{self._failed} uploads: {error.message}",
                hint="the bytes sent were verified here; the registry or a proxy in front of it is at fault",
            )

"""What a user can meet: one class a situation.

Every class fixes a stable ``code``, the exit code of the command that ends with it, and whether trying again
can help. The sentence (what happened, where) and the hint (what to do) come with the instance. This module
imports nothing of ours.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; unknown ones mean failure."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    FAILED = 3
    AUTH = 4
    UNFINISHED = 5
    REFUSED = 6
    SOURCE = 7
    STORE = 8
    INTERRUPTED = 130
    TERMINATED = 143


class Retry(Enum):
    """What trying again is worth."""

    NEVER = "never"
    BACKOFF = "backoff"
    """Helps after a pause; counts as an attempt."""
    OFFLINE = "offline"
    """The registry cannot be reached at all; waiting for the network is not an attempt."""
    LATER = "later"
    """Helps once the user has done something (freed disk space); a drain run does not wait for it."""


class PusherError(Exception):
    """Base of everything a user can cause or meet.

    ``message`` is one sentence without a final full stop: what happened and where. ``hint`` says what to do,
    with the exact command where there is one. Neither ever holds a secret.
    """

    code = "unexpected"
    exit_code = ExitCode.UNEXPECTED
    retry = Retry.NEVER

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after = retry_after
        """Seconds the registry asked us to wait, if it did."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.retry_after))


def _rebuild(cls: type[PusherError], message: str, hint: str, retry_after: float | None) -> PusherError:
    return cls(message, hint=hint, retry_after=retry_after)


# --- what was typed ---------------------------------------------------------------------------------------


class InvalidOption(PusherError):
    """An option's or setting's value makes no sense."""

    code = "option-invalid"
    exit_code = ExitCode.USAGE


class ReferenceMalformed(PusherError):
    """An image reference does not follow the grammar."""

    code = "reference-malformed"
    exit_code = ExitCode.USAGE


class JobUnknown(PusherError):
    """No job has this id."""

    code = "job-unknown"
    exit_code = ExitCode.USAGE


class JobStateConflict(PusherError):
    """The job is in a state in which this cannot be done to it."""

    code = "job-state-conflict"
    exit_code = ExitCode.USAGE


class PlainHttpRefused(PusherError):
    """Plain http was asked of a registry that is not on this machine, without consent."""

    code = "plain-http-refused"
    exit_code = ExitCode.USAGE


# --- authentication and permission ------------------------------------------------------------------------


class PasswordMissing(PusherError):
    """A password was announced and none, or an empty one, came."""

    code = "password-missing"
    exit_code = ExitCode.AUTH


class CredentialsMissing(PusherError):
    """The registry wants a login and no credential is known for it."""

    code = "credentials-missing"
    exit_code = ExitCode.AUTH


class CredentialsRejected(PusherError):
    """The registry answers 401 to the credential it was given."""

    code = "credentials-rejected"
    exit_code = ExitCode.AUTH


class CredentialsUnreadable(PusherError):
    """A credential file exists and cannot be used."""

    code = "credentials-unreadable"
    exit_code = ExitCode.AUTH


class PermissionDenied(PusherError):
    """The login is accepted, the push is not allowed (403)."""

    code = "permission-denied"
    exit_code = ExitCode.AUTH


class AuthenticationUnsupported(PusherError):
    """The registry asks for a way to authenticate that pusher does not know."""

    code = "authentication-unsupported"
    exit_code = ExitCode.AUTH


# --- the network and the registry -------------------------------------------------------------------------


class RegistryUnreachable(PusherError):
    """No connection: name not found, refused, no route, connect time-out."""

    code = "registry-unreachable"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.OFFLINE


class ConnectionBroken(PusherError):
    """A connection that stood was cut, or an answer never came; what the registry took is in doubt."""

    code = "connection-broken"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF


class RegistryStalled(ConnectionBroken):
    """Nothing moved for the stall time-out, or the answer took longer than the answer time-out."""

    code = "registry-stalled"


class RegistryBusy(PusherError):
    """429 or 503: the registry asks for a pause."""

    code = "registry-busy"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF


class RegistryFault(PusherError):
    """A 5xx answer."""

    code = "registry-error"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF


class CertificateUntrusted(PusherError):
    """TLS: the registry's certificate cannot be verified."""

    code = "certificate-untrusted"
    exit_code = ExitCode.FAILED


class NotARegistry(PusherError):
    """What answers at this address does not speak the distribution API."""

    code = "not-a-registry"
    exit_code = ExitCode.REFUSED


class RegistryRefused(PusherError):
    """The registry says no to the content or the request, and will again."""

    code = "registry-refused"
    exit_code = ExitCode.REFUSED


class RepositoryUnknown(RegistryRefused):
    """The repository does not exist and the registry does not create it on push."""

    code = "repository-unknown"


class LayerTooLarge(RegistryRefused):
    """A blob is over what the registry can ever store."""

    code = "layer-too-large"


class ChunkTooLarge(RegistryRefused):
    """413 even for the smallest chunk that the registry allows."""

    code = "chunk-too-large"


class DigestRejected(RegistryRefused):
    """The registry computed another digest than ours from bytes that we verified."""

    code = "digest-rejected"


# --- the source -------------------------------------------------------------------------------------------


class SourceError(PusherError):
    """Base of what can be wrong with the place an image is read from."""

    code = "source-error"
    exit_code = ExitCode.SOURCE


class ImageNotFound(SourceError):
    """The engine or archive has no image of this name."""

    code = "image-not-found"


class ImageAmbiguous(SourceError):
    """An archive holds several images and none was chosen."""

    code = "image-ambiguous"


class ImageChanged(SourceError):
    """What was enqueued is no longer there: image deleted or archive replaced."""

    code = "image-changed"


class ImageUnsupported(SourceError):
    """The image is of a kind that pusher does not push."""

    code = "image-unsupported"


class ArchiveInvalid(SourceError):
    """The file is no image archive, or its parts contradict each other."""

    code = "archive-invalid"


class ArchiveTruncated(SourceError):
    """The archive ends in the middle of a part."""

    code = "archive-truncated"


class LayerMismatch(SourceError):
    """A layer's bytes do not have the digest that the image promises."""

    code = "layer-mismatch"


class EngineMissing(SourceError):
    """The docker or podman command is not installed."""

    code = "engine-missing"


class EngineNotRunning(SourceError):
    """The Docker daemon does not answer."""

    code = "engine-not-running"


class EngineNotPermitted(SourceError):
    """The Docker socket refuses this user."""

    code = "engine-not-permitted"


class EngineFailed(SourceError):
    """docker or podman ended with an error that fits nothing above."""

    code = "engine-failed"


# --- this machine -----------------------------------------------------------------------------------------


class DiskFull(PusherError):
    """No room for a compressed layer."""

    code = "disk-full"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.LATER


class HomeUnusable(PusherError):
    """PUSHER_HOME cannot be created or written."""

    code = "home-unusable"
    exit_code = ExitCode.STORE


class StoreError(PusherError):
    """Base of what can be wrong with the job store."""

    code = "store-error"
    exit_code = ExitCode.STORE


class StoreLocked(StoreError):
    """Another process holds the job store for longer than we wait."""

    code = "store-locked"
    retry = Retry.BACKOFF


class StoreReadOnly(StoreError):
    """The job store cannot be written."""

    code = "store-read-only"


class StoreUnreachable(StoreError):
    """The database server does not answer, or the file cannot be opened."""

    code = "store-unreachable"
    retry = Retry.BACKOFF


class StoreOutdated(StoreError):
    """The schema is older than this pusher and is not upgraded by itself (PostgreSQL)."""

    code = "store-needs-upgrade"


class StoreTooNew(StoreError):
    """The schema was written by a newer pusher."""

    code = "store-too-new"


class StoreCorrupt(StoreError):
    """The file is no job store, or is damaged."""

    code = "store-corrupt"


# --- control flow, never shown ----------------------------------------------------------------------------


class Stopped(Exception):
    """The user asked us to stop; everything acknowledged is stored."""


class LeaseLost(Exception):
    """The job or upload now belongs to someone else, or was paused or cancelled; stop working on it."""

"""The network and the registry."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


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


class ProxyFailed(RegistryUnreachable):
    """The proxy of HTTPS_PROXY or HTTP_PROXY cannot be reached, or lets nothing through."""

    code = "proxy-failed"


class LocationRefused(RegistryRefused):
    """The registry sends the upload, or its token request, to an address that it has no business with."""

    code = "location-refused"

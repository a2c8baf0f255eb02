"""The network and the registry."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class RegistryUnreachable(PusherError):
    """No connection to the registry comes about."""

    code = "registry-unreachable"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.OFFLINE
    advice = "check the network, the registry's name and its port"


class RegistryNameUnknown(PusherError):
    """The registry's name has no address, and never had one here."""

    code = "registry-name-unknown"
    exit_code = ExitCode.FAILED
    advice = "check the spelling of the registry's name"


class ConnectionBroken(PusherError):
    """A connection that stood was cut."""

    code = "connection-broken"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "check the network; what the registry keeps is not sent again"


class RegistryStalled(ConnectionBroken):
    """The registry stopped taking bytes, or its answer takes too long."""

    code = "registry-stalled"
    advice = "check the network; what the registry keeps is not sent again"


class RegistryBusy(PusherError):
    """The registry asks for a pause (429 or 503)."""

    code = "registry-busy"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "pusher waits as long as the registry asks, then goes on"


class RegistryFault(PusherError):
    """The registry, or what stands before it, failed (5xx)."""

    code = "registry-error"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "the fault is on the registry's side; try again later"


class CertificateUntrusted(PusherError):
    """The registry's TLS certificate cannot be verified."""

    code = "certificate-untrusted"
    exit_code = ExitCode.FAILED
    advice = "add the CA of the registry, or of the VPN or proxy before it, with --ca-cert FILE"


class ClientCertificateRefused(PusherError):
    """The registry wants a client certificate that it trusts, and got none or another."""

    code = "client-certificate-refused"
    exit_code = ExitCode.AUTH
    advice = "put its certificate and key into the registry's folder of certs.d: client.cert and client.key"


class TlsFailed(PusherError):
    """The registry and pusher cannot agree on how to speak TLS."""

    code = "tls-failed"
    exit_code = ExitCode.FAILED
    advice = "let the registry offer TLS 1.2 or 1.3"


class NotARegistry(PusherError):
    """What answers at this address is no registry."""

    code = "not-a-registry"
    exit_code = ExitCode.REFUSED
    advice = "check the registry's name and port"


class RegistryRefused(PusherError):
    """The registry says no to the content or the request, and will again."""

    code = "registry-refused"
    exit_code = ExitCode.REFUSED
    advice = "mend what the registry names; until then it will say the same"


class RepositoryUnknown(RegistryRefused):
    """The repository does not exist, and the registry does not create it on a push."""

    code = "repository-unknown"
    advice = "create the repository at the registry, or check its name"


class LayerTooLarge(RegistryRefused):
    """A layer is larger than the registry can ever store."""

    code = "layer-too-large"
    mendable = False
    advice = "split it with --split-layers SIZE, or in the image's build, or use another registry"


class ChunkTooLarge(RegistryRefused):
    """The registry, or what stands before it, refuses even the smallest chunk as too large (413)."""

    code = "chunk-too-large"
    advice = "raise the limit on a body's size at the registry or at the proxy before it"


class DigestRejected(RegistryRefused):
    """The registry computed another digest from bytes that pusher had verified."""

    code = "digest-rejected"
    advice = "try another network, for something on the way may change bytes; or tell the registry's owner"


class ProxyFailed(RegistryUnreachable):
    """The proxy of HTTPS_PROXY or HTTP_PROXY cannot be reached, or lets nothing through."""

    code = "proxy-failed"
    advice = "check HTTPS_PROXY and HTTP_PROXY, or name the registry in NO_PROXY"


class ProxyUnusable(PusherError):
    """The proxy wants a login, refuses to connect to the registry, or is of a kind that pusher cannot use."""

    code = "proxy-unusable"
    exit_code = ExitCode.FAILED
    advice = "set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT, or name the registry in NO_PROXY"


class LocationRefused(RegistryRefused):
    """The registry sends the upload, or a request for a token, to an address where it has no business."""

    code = "location-refused"
    advice = "tell the registry's owner; nothing was sent there"

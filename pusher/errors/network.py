"""The network and the registry."""

from __future__ import annotations

from pusher.errors.base import ExitCode, PusherError, Retry


class RegistryUnreachable(PusherError):
    """No connection to the registry can be made."""

    code = "registry-unreachable"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.OFFLINE
    advice = "check the network, the registry's name and its port"


class RegistryNameUnknown(PusherError):
    """The registry's name cannot be resolved, and never could be on this machine."""

    code = "registry-name-unknown"
    exit_code = ExitCode.FAILED
    advice = "check the spelling of the registry's name"


class ConnectionBroken(PusherError):
    """The connection to the registry broke."""

    code = "connection-broken"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "check the network; what the registry acknowledged is not sent again"


class RegistryStalled(ConnectionBroken):
    """The registry stopped receiving data, or took too long to respond."""

    code = "registry-stalled"
    advice = "check the network; what the registry acknowledged is not sent again"


class RegistryBusy(PusherError):
    """The registry asked for a pause (429 or 503)."""

    code = "registry-busy"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "pusher waits as long as the registry asks, then continues"


class RegistryFault(PusherError):
    """The registry, or a proxy in front of it, failed (5xx)."""

    code = "registry-error"
    exit_code = ExitCode.UNFINISHED
    retry = Retry.BACKOFF
    advice = "the fault is at the registry; try again later"


class IntermediaryFault(RegistryFault):
    """Something in front of the registry answered in its place, for now.

    ``meaning``: the error that the answer means once it lasts.
    """

    meaning: PusherError | None = None


class CertificateUntrusted(PusherError):
    """The registry's TLS certificate cannot be verified."""

    code = "certificate-untrusted"
    exit_code = ExitCode.FAILED
    advice = "add the CA of the registry, or of the VPN or proxy in front of it, with --ca-cert FILE"


class ClientCertificateRefused(PusherError):
    """The registry requires a client certificate, and got none or one that it does not trust."""

    code = "client-certificate-refused"
    exit_code = ExitCode.AUTH
    advice = "put client.cert and client.key into the registry's folder in certs.d"


class TlsFailed(PusherError):
    """The registry and pusher cannot agree on a version of TLS."""

    code = "tls-failed"
    exit_code = ExitCode.FAILED
    advice = "enable TLS 1.2 or 1.3 at the registry"


class NotARegistry(PusherError):
    """The server at this address is not a container registry."""

    code = "not-a-registry"
    exit_code = ExitCode.REFUSED
    advice = "check the registry's name and port"


class RegistryRefused(PusherError):
    """The registry refused the content or the request, and will refuse it again."""

    code = "registry-refused"
    exit_code = ExitCode.REFUSED
    advice = "fix what the registry names, then try again"


class RepositoryUnknown(RegistryRefused):
    """The repository does not exist, and the registry does not create it on a push."""

    code = "repository-unknown"
    advice = "create the repository in the registry, or check its name"


class LayerTooLarge(RegistryRefused):
    """A layer is larger than the registry can store."""

    code = "layer-too-large"
    fixable = False
    advice = "split it with --split-layers SIZE or in the image's build, or use another registry"


class ChunkTooLarge(RegistryRefused):
    """The registry, or a proxy in front of it, refuses even the smallest chunk as too large (413)."""

    code = "chunk-too-large"
    advice = "raise the limit on request bodies at the registry or at the proxy in front of it"


class DigestRejected(RegistryRefused):
    """The registry computed another digest than pusher for the same data."""

    code = "digest-rejected"
    advice = "try another network, as something on the way may change the data; or report it to the registry"


class ProxyFailed(RegistryUnreachable):
    """The proxy of HTTPS_PROXY or HTTP_PROXY cannot be reached, or breaks the connection."""

    code = "proxy-failed"
    advice = "check HTTPS_PROXY and HTTP_PROXY, or add the registry to NO_PROXY"


class ProxyUnusable(PusherError):
    """The proxy requires a login, refuses to connect to the registry, or is not an HTTP proxy."""

    code = "proxy-unusable"
    exit_code = ExitCode.FAILED
    advice = "set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT, or add the registry to NO_PROXY"


class LocationRefused(RegistryRefused):
    """The registry redirects an upload, or a token request, to an address that is not safe."""

    code = "location-refused"
    advice = "report it to the registry's administrator; nothing was sent there"

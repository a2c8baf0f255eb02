"""The requests of the distribution API that a push needs, on one registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from pusher.errors import (
    AuthenticationUnsupported,
    ConnectionBroken,
    CredentialsRejected,
    NotARegistry,
    PermissionDenied,
)
from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.oci.document import Document
from pusher.reference import api_host, is_loopback
from pusher.registry.answers import read_message, refusal
from pusher.registry.auth import Authenticator
from pusher.registry.body import Body
from pusher.registry.locations import Origin
from pusher.registry.redact import host_of
from pusher.registry.tokens import Scopes
from pusher.registry.transport import ANSWER_LIMIT, Answer, Receiver, Transport
from pusher.registry.warnings import Warnings

_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_GREETING: Final = "greeting it"


class BlobsUnknown(Exception):
    """The registry does not know blobs that a manifest names; ``digests`` are those it named, if any."""

    def __init__(self, answer: Answer) -> None:
        self.refusal = refusal(answer, doing="storing the manifest")
        self.digests = read_message(answer).digests
        super().__init__(self.refusal.message)


@dataclass(frozen=True)
class Opened:
    """The answer to opening an upload: where its bytes go, or ``location`` None if the blob was mounted."""

    location: str | None
    headers: Mapping[str, str]


class RegistryClient:
    """Talks to one registry (``host[:port]``). Thread-safe.

    Every method may raise the transport's errors, those of ``Attempt`` (CredentialsMissing,
    CredentialsRejected, PermissionDenied, AuthenticationUnsupported) and of ``Origin`` (LocationRefused,
    PlainHttpRefused); where it does not return any answer, also the errors of ``answers.refusal``.
    ``on_warning`` is told once of each different warning that the registry sends.
    """

    def __init__(
        self,
        registry: str,
        transport: Transport,
        authenticator: Authenticator,
        *,
        plain_http: bool = False,
        commit_timeout: float = 900.0,
        on_warning: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    ) -> None:
        self.registry = registry
        self._transport = transport
        self._auth = authenticator
        self._plain_http = plain_http
        self._commit_timeout = commit_timeout
        self._warnings = Warnings(registry, on_warning)
        self._lock = threading.Lock()
        self._base: str | None = None
        self._greeted = False
        self.one_request_a_connection = False
        """Set when the link cuts connections in the middle of bodies: where a front or a link does so after a
        number of bytes, a fresh connection for each chunk gets through."""

    # --- blobs --------------------------------------------------------------------------------------------

    def blob_exists(self, repository: str, digest: str) -> bool:
        """HEAD (end-2). A size or digest header is not compared: registries get them wrong for mounted blobs
        (https://github.com/cloudflare/serverless-registry/issues/121)."""
        url = self._url(f"{repository}/blobs/{digest}")
        answer = self._request("HEAD", url, _scopes(repository))
        if answer.ok:
            return True
        if answer.url != url and 400 <= answer.status < 500:
            return answer.status != 404  # a storage URL signed for GET refuses HEAD; the blob is behind it
        if answer.status in (404, 405):
            return False
        raise refusal(answer, doing=f"looking for the blob {digest}")

    def open_upload(self, repository: str, *, mount: str | None = None, source: str | None = None) -> Opened:
        """POST (end-4a), or with ``mount`` a digest that ``source``, another repository, has (end-11)."""
        url = self._url(f"{repository}/blobs/uploads/")
        query, scopes = "", _scopes(repository)
        if mount and source:
            query = "?" + urlencode({"mount": mount, "from": source}, safe=":/")
            scopes += (f"repository:{source}:pull",)
        try:
            answer = self._request("POST", url + query, scopes)
        except (CredentialsRejected, PermissionDenied):
            if query:  # a login that may push here and not read there
                return self.open_upload(repository)
            raise
        if answer.status == 201 and query:
            return Opened(None, answer.headers)
        if query and 400 <= answer.status < 500 and answer.status not in (408, 429):
            return self.open_upload(repository)  # mounting is refused; an upload may still be allowed
        if answer.ok and (location := self.location_of(answer)):
            return Opened(location, answer.headers)
        raise refusal(answer, doing="opening an upload")

    def send_chunk(self, repository: str, location: str, body: Body, start: int) -> Answer:
        """PATCH (end-5) with the bytes from ``start`` on; any answer is returned."""
        headers = {**_OCTETS, **_content_range(start, body)}
        if self.one_request_a_connection:
            headers["Connection"] = "close"
        return self._request("PATCH", location, _scopes(repository), body=body, headers=headers)

    def upload_status(self, repository: str, location: str) -> Answer:
        """GET (end-13); any answer is returned."""
        return self._request("GET", location, _scopes(repository))

    def close_upload(
        self, repository: str, location: str, digest: str, body: Body | None = None, start: int = 0
    ) -> Answer:
        """PUT (end-6): with the whole blob or, after chunks, empty or with the last one, which begins at byte
        ``start``; any answer is returned.

        It may take minutes: registries copy the blob before they answer.
        """
        url = f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(digest, safe=':')}"
        headers = {**_OCTETS, **_content_range(start, body)} if body and start else _OCTETS
        return self._request(
            "PUT",
            url,
            _scopes(repository),
            body=body,
            headers=headers,
            answer_timeout=self._commit_timeout,
        )

    def delete_upload(self, repository: str, location: str) -> Answer:
        """DELETE (end-14); any answer is returned, clients should ignore failures: 403 for a login that may
        push and not delete, as distribution tells the two apart."""
        try:
            return self._request("DELETE", location, _scopes(repository))
        except (CredentialsRejected, PermissionDenied):
            return Answer("DELETE", location, 403)

    def get_blob(self, repository: str, digest: str, receiver: Receiver, start: int = 0) -> Answer:
        """GET (end-2) from byte ``start`` on into ``receiver``; any answer is returned, the body of one that
        it did not take is in it. Registries that know no ranges give the whole blob."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self._url(f"{repository}/blobs/{digest}")
        return self._request("GET", url, _pull(repository), headers=headers, receiver=receiver)

    def get_small(self, path: str, repository: str, *, accept: str = "*/*", limit: int) -> Answer:
        """GET of ``manifests/...`` or ``blobs/...`` of a repository, with the right to pull alone; any answer
        is returned, with at most ``limit`` bytes of its body."""
        url = self._url(f"{repository}/{path}")
        return self._request("GET", url, _pull(repository), headers={"Accept": accept}, limit=limit)

    def is_ours(self, answer: Answer) -> bool:
        """Whether the registry itself gave an answer, and no storage that it sent us to."""
        return Origin(self.registry, self._reach()).holds(answer.url)

    # --- manifests ----------------------------------------------------------------------------------------

    def manifest_at(self, repository: str, reference: str) -> bytes | None:
        """GET (end-3) of a single image's manifest; None if there is none that we may see."""
        accept = ", ".join(sorted(media_types.MANIFESTS))
        url = self._url(f"{repository}/manifests/{reference}")
        answer = self._request("GET", url, _scopes(repository), headers={"Accept": accept})
        return answer.body if answer.ok else None

    def index_at(self, repository: str, tag: str) -> bytes | None:
        """GET (end-3) of an index; None if there is nothing at the tag."""
        accept = ", ".join(sorted(media_types.INDEXES))
        url = self._url(f"{repository}/manifests/{tag}")
        answer = self._request("GET", url, _scopes(repository), headers={"Accept": accept})
        if answer.status == 404:
            return None
        if answer.ok:
            return answer.body
        raise refusal(answer, doing=f"reading {repository}:{tag}")

    def small_blob(self, repository: str, digest: str) -> bytes | None:
        """GET (end-2) of a blob of at most ``ANSWER_LIMIT`` bytes, verified; None if it cannot be had."""
        answer = self._request("GET", self._url(f"{repository}/blobs/{digest}"), _scopes(repository))
        return answer.body if answer.ok and of_bytes(answer.body) == digest else None

    def put_manifest(self, repository: str, reference: str, manifest: Document) -> str | None:
        """PUT (end-7) of the manifest's exact bytes under a tag or digest.

        Returns the digest of its subject if the registry keeps track of what refers to that (OCI-Subject).
        Raises BlobsUnknown if the registry misses blobs or manifests that it names.
        """
        answer = self._request(
            "PUT",
            self._url(f"{repository}/manifests/{reference}"),
            _scopes(repository),
            body=manifest.raw,
            headers={"Content-Type": manifest.media_type},
            answer_timeout=self._commit_timeout,
        )
        if answer.ok:
            return answer.headers.get("OCI-Subject")
        if read_message(answer).codes & {"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"}:
            raise BlobsUnknown(answer)
        raise refusal(answer, doing=f"storing the manifest {repository}:{reference}")

    # --- the way there ------------------------------------------------------------------------------------

    def ping(self) -> str:
        """Make sure that a registry answers and takes our credential (GET /v2/, end-1); asked once.

        Returns the base of its URLs. Raises NotARegistry, CredentialsRejected and the transport's errors.
        """
        base = self._reach()
        if not self._greeted and self._auth.uses_tokens and self._auth.credential() is not None:
            answer = self._request("GET", base, ())
            if not answer.ok:
                raise refusal(answer, doing=_GREETING)
        self._greeted = True
        return base

    @property
    def asks_for_login(self) -> bool:
        """Whether the registry has asked who we are; False before ``ping``."""
        return self._auth.asked

    def location_of(self, answer: Answer) -> str | None:
        """The absolute URL that an answer's Location means, its query as given (RFC 3986 5)."""
        return Origin(self.registry, self._base or answer.url).location(answer)

    def _reach(self) -> str:
        """The base of the registry's URLs, once it is known that there is one.

        Where it wants tokens, none is asked for yet: its token server may give none but for a repository.
        """
        with self._lock:
            if self._base is None:
                self._base = self._find()
            return self._base

    def _find(self) -> str:
        host = api_host(self.registry)
        loopback = is_loopback(self.registry)
        schemes = ["http"] if self._plain_http else ["http", "https"] if loopback else ["https"]
        broken: ConnectionBroken | None = None
        for scheme in schemes:
            base = f"{scheme}://{host}/v2/"
            try:
                answer = self._request("GET", base, (), base=base)
            except ConnectionBroken as error:
                if scheme == schemes[-1]:
                    raise
                broken = error  # by a link, or because TLS is spoken here
                continue
            except NotARegistry as error:
                raise broken or error from None
            if answer.status == 400 and scheme != schemes[-1]:
                continue  # "client sent an HTTP request to an HTTPS server"
            if answer.status == 401:
                return base
            page = answer.headers.get("Content-Type", "").startswith("text/html")
            if answer.ok and not page:
                return base
            if answer.ok or answer.status in _REDIRECTS or answer.status in (400, 404, 405):
                break
            raise refusal(answer, doing=_GREETING)
        raise NotARegistry(
            f"{self.registry} is no container registry: GET /v2/ answers {answer.status}",
            hint="check the registry's name: the part of the image name before the first slash",
        )

    def _url(self, path: str) -> str:
        return self._reach() + path

    def _request(
        self,
        method: str,
        url: str,
        scopes: Scopes,
        *,
        body: Body | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        answer_timeout: float | None = None,
        base: str | None = None,
        receiver: Receiver | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        """Send, prove who we are when asked, follow redirects; the login goes to our origin only.

        With ``base``, the registry's URLs while it is being found, a demand for a token ends it.
        """
        origin = Origin(self.registry, base or self._reach())
        attempt = self._auth.attempt(self._transport, method, scopes)
        redirects = 0
        while True:
            ours = origin.holds(url)
            answer = self._transport.send(
                method,
                url,
                headers={**(headers or {}), **(attempt.headers() if ours else {})},
                body=body,
                answer_timeout=answer_timeout,
                receiver=receiver,
                limit=limit,
            )
            if ours:
                self._warnings.see(answer.headers)
            if answer.status == 401 and ours:
                attempt.challenged(answer)
                if base is not None and self._auth.uses_tokens:
                    return answer
            elif answer.status == 401 and (redirects == 0 or method not in ("GET", "HEAD")):
                raise AuthenticationUnsupported(
                    f"{self.registry} sends the upload to {host_of(url)}, which wants a login of its own",
                    hint=f"the login for {self.registry} goes to no other host; tell the registry's owner",
                )
            elif answer.status in _REDIRECTS and answer.headers.get("Location"):
                redirects += 1
                if redirects > _MOST_REDIRECTS or (
                    method not in ("GET", "HEAD") and answer.status not in (307, 308)
                ):
                    return answer
                url = origin.redirect(answer)
            else:
                return answer
            if isinstance(body, Body):
                body.rewind()


def _content_range(start: int, body: Body) -> dict[str, str]:
    """Without "bytes ", unlike HTTP: https://github.com/cloudflare/serverless-registry/issues/119."""
    return {"Content-Range": f"{start}-{start + len(body) - 1}"}


def _scopes(repository: str) -> Scopes:
    """What a push may do to a repository (distribution, docs/content/spec/auth/scope.md)."""
    return (f"repository:{repository}:pull,push",)


def _pull(repository: str) -> Scopes:
    return (f"repository:{repository}:pull",)

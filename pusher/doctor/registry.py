"""Check one registry: credential, permission to push, and upload capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from pusher.config import Settings
from pusher.doctor.check import Check, Skipped
from pusher.doctor.network import NetworkChecks
from pusher.doctor.target import RegistryTarget
from pusher.errors import LayerTooLarge, PusherError, RegistryRefused
from pusher.registry.auth.challenge import choose_challenge, parse_challenges
from pusher.registry.auth.credentials import Credential, find_credential
from pusher.registry.client import OpenedUpload
from pusher.registry.http.answer import Answer, size_in
from pusher.registry.http.redaction import host_of
from pusher.registry.upload import chunk_sizes
from pusher.registry.upload.blob_sizes import check_size, may_be_too_large
from pusher.registry.upload.profiles import DEFAULT, GIB, SERVERLESS, Profile, by_name, detect
from pusher.registry.upload.session import reported_offset
from pusher.registry.upload.uplink import LinkEstimate
from pusher.units import human_bytes
from pusher.worker.registries import Registries, RegistryConnection


class RegistryChecks:
    """The checks leave nothing at the registry: they delete their upload session at once."""

    def __init__(
        self,
        destination: RegistryTarget,
        settings: Settings,
        registries: Registries,
        network: NetworkChecks,
        warnings: list[str],
        login_error: PusherError | None,
        sizes: Mapping[str, int],
    ) -> None:
        """``warnings`` is filled by the registry's client; ``sizes`` are the blobs' bytes, by digest."""
        self._large = {digest: size for digest, size in sizes.items() if may_be_too_large(size)}
        self._to = destination
        self._settings = settings
        self._site = settings.at(destination.registry)
        self._registries = registries
        self._network = network
        self._warnings = warnings
        self._login_error = login_error
        self._credential: Credential | None = None
        self._connection: RegistryConnection | None = None
        self._opened: OpenedUpload | None = None
        self._status: Answer | PusherError | None = None
        self._profile: Profile | None = None

    def credential_check(self) -> Check:
        """Return the check that needs no network."""
        return Check("credential", "looking for a login", self._find_credential, ("reference",))

    def checks(self) -> list[Check]:
        """Return the checks after the network's. Sizes are compared if some registries refuse them."""
        to = self._to
        layers = Check("layers", "comparing their sizes", self._compare_sizes, ("login", "profile"))
        return [
            Check("login", f"logging in to {to.registry}", self._log_in, ("registry", "credential")),
            Check("push", f"opening an upload in {to.repository}", self._open_upload, ("login",)),
            Check(
                "profile",
                "reading the answer",
                self._choose_profile,
                ("reference",) if self._site.profile else ("push",),
            ),
            Check("chunks", "reading the answer", self._read_limits, ("push", "profile")),
            Check("resume", "reading the answer", self._read_status, ("push", "profile")),
            *([layers] if self._large else []),
        ]

    # --- login ---------------------------------------------------------------------------------------------

    def _find_credential(self) -> str:
        if self._login_error is not None:
            raise self._login_error
        to = self._to
        problems: list[PusherError] = []
        self._credential = found = find_credential(
            to.registry, self._settings, to.repository, on_problem=problems.append
        )
        if found is not None:
            return "; but ".join([_describe_credential(found), *(problem.message for problem in problems)])
        if problems:
            raise problems[0]
        return f"none for {to.registry}; pushing without a login"

    def _log_in(self) -> str:
        to, ping_answer = self._to, self._network.ping_answer
        self._connection = self._registries.get(to.registry, to.repository)
        self._connection.client.ping()
        if ping_answer is None or ping_answer.status != 401:
            if self._credential is None:
                return f"{to.registry} requires no login"
            unused = _describe_credential(self._credential)
            return f"{to.registry} requires no login: {unused} is neither used nor checked"
        challenge = choose_challenge(parse_challenges(ping_answer.headers.get("WWW-Authenticate", "")))
        way = "Basic"
        if challenge is not None and challenge.scheme == "bearer":
            way = f"Bearer, tokens from {host_of(challenge.realm)}"
        if self._credential is None:
            return f"{to.registry} asks for a login ({way}); the push shows whether it is needed"
        return f"{to.registry} accepts {_describe_credential(self._credential)} ({way})"

    # --- pushing ------------------------------------------------------------------------------------------

    def _open_upload(self) -> str:
        to = self._to
        if not to.repository:
            raise Skipped(
                "because no repository was given",
                hint=f"pusher doctor {to.registry}/team/app, with your own names",
            )
        assert self._connection is not None  # noqa: S101 - "push" needs "login"
        client = self._connection.client
        opened = client.open_upload(to.repository)
        location = opened.location or ""
        ended = "it expires there"
        try:
            self._status = client.get_upload_status(to.repository, location)
        except PusherError as error:
            self._status = error
        finally:
            with suppress(PusherError):
                if client.delete_upload(to.repository, location).ok:
                    ended = "it was deleted again"
        self._opened = opened
        said = f"; the registry warns: {'; '.join(self._warnings)}" if self._warnings else ""
        return f"an upload to {to.repository} can be opened; {ended}{said}"

    def _choose_profile(self) -> str:
        forced = self._site.profile
        if forced is not None:
            self._profile = by_name(forced)
            return f"{forced}, as --profile, PUSHER_PROFILE or pusher.toml says{self._bucket_keys()}"
        opened, link = self._require_upload(), self._link
        self._profile = profile = detect(
            opened.location or "", opened.headers, registry=self._to.registry, learned=link.profile
        )
        if profile.name == link.profile:
            why = "as earlier pushes taught"
        elif profile is DEFAULT:
            why = "as nothing shows more"
        elif profile is detect(opened.location or "", opened.headers):
            why = "as its answer shows"
        else:
            why = "by its name"
        return f"{profile.name} ({profile.title}), {why}{self._bucket_keys()}"

    def _read_limits(self) -> str:
        opened, link = self._require_upload(), self._link
        profile = self._profile or DEFAULT
        said = [
            f"{word} {human_bytes(size)}"
            for word, name in (("at least", "OCI-Chunk-Min-Length"), ("at most", "OCI-Chunk-Max-Length"))
            if (size := size_in(opened.headers, name)) is not None
        ]
        announced = f"{self._to.registry} announces chunks of {' and '.join(said) or 'no particular size'}"
        limits = chunk_sizes.announced_limits(
            opened.headers, profile, link.accepted_size(self._site.chunk_size)
        )
        size = chunk_sizes.chunk_size(GIB, link.first_size(self._site.chunk_size, profile), limits, profile)
        if not profile.takes_chunks or profile.whole:
            return f"{announced}; pusher sends each layer in one request{self._earlier_refusal()}"
        return f"{announced}; pusher begins with {human_bytes(size)}{self._earlier_refusal()}"

    def _earlier_refusal(self) -> str:
        """Return earlier refusals, which a temporary fault may have caused."""
        link = self._link
        if not link.is_limited:
            return ""
        what = f"chunks over {human_bytes(link.max_chunk)}" if link.max_chunk else "another way of sending"
        return (
            f"; an earlier push was refused {what}, which is tried again after a day, or at once after: "
            f"pusher registry {self._to.registry} --forget"
        )

    def _read_status(self) -> str:
        self._require_upload()
        profile, status = self._profile or DEFAULT, self._status
        if not profile.reports_offset:
            raise Skipped(f"because {profile.title} does not report how much of an upload it holds")
        if isinstance(status, PusherError):
            raise status
        assert status is not None  # noqa: S101 - set before the session
        if status.ok and reported_offset(status) is not None:
            return "the registry reports how much of an upload it holds: after a break it is resumed there"
        what = f"{status.status}" + ("" if not status.ok else " without a usable Range")
        raise RegistryRefused(
            f"{self._to.registry} answers {what} when asked for an upload that it has just opened: "
            "after a break a layer may start again",
            hint="pushes work; a registry that runs as several instances needs one storage and http.secret",
        )

    def _compare_sizes(self) -> str:
        to = self._to
        assert self._connection is not None  # noqa: S101 - "layers" needs "login"
        client = self._connection.client
        profile = self._profile or DEFAULT
        for digest, size in self._large.items():
            try:
                check_size(digest, size, profile, to.registry)
            except LayerTooLarge:
                if not client.blob_exists(to.repository, digest, size):
                    raise
        largest = human_bytes(max(self._large.values()))
        return f"no layer that has to be sent is too large for {profile.title}; the largest has {largest}"

    def _require_upload(self) -> OpenedUpload:
        if self._opened is None:
            raise Skipped("because no upload was opened")
        return self._opened

    @property
    def _link(self) -> LinkEstimate:
        assert self._connection is not None  # noqa: S101 - "push" needs "login"
        return self._connection.link

    def _bucket_keys(self) -> str:
        """Return the keys of an image in serverless-registry's R2 bucket (src/registry/r2.ts)."""
        to = self._to
        if self._profile is not SERVERLESS or not to.repository:
            return ""
        return (
            f"; keys in R2: {to.repository}/blobs/DIGEST, {to.repository}/manifests/{to.tag or 'TAG'}, "
            f"uploads in {to.repository}/uploads/UUID"
        )


def _describe_credential(credential: Credential) -> str:
    if credential.registry_token is not None:
        return f"a registry token from {credential.source}"
    if credential.identity_token is not None:
        return f"an identity token from {credential.source}"
    return f"user {credential.username} from {credential.source}"

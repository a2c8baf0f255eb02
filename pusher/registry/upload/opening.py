"""Open upload sessions: choose the profile, the way of sending and the chunk size."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from pusher.errors import ChunkTooLarge, LayerTooLarge, PusherError
from pusher.registry.answers import read_message
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobFile
from pusher.registry.upload import body_limit, chunk_sizes, early_chunks, profiles
from pusher.registry.upload.blob_sizes import check_size
from pusher.registry.upload.profiles import CHUNKED, DEFAULT, MONOLITHIC, Profile
from pusher.registry.upload.session import Journal, Session
from pusher.registry.upload.uplink import LinkEstimate
from pusher.units import human_bytes

_NO_CHUNKS: Final = frozenset({405, 501})
"""Responses of a registry that does not support the request."""


class SessionOpener:
    """Opens the sessions of one blob's upload, and changes the way of sending where it is refused."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        blob: BlobFile,
        journal: Journal,
        link: LinkEstimate,
        *,
        wanted_chunk: int | None,
        mount_from: str | None,
        forced: str | None,
    ) -> None:
        self._client = client
        self._repository = repository
        self._blob = blob
        self._journal = journal
        self._link = link
        self._wanted_chunk = wanted_chunk
        self._forced = forced
        self.mount_from = mount_from
        self._instead: Profile | None = None  # the way of sending that is tried in place of the profile's
        self._once = False  # for one session only
        self._tried: set[Profile] = set()
        self._worth_learning = False
        self._refused_starts = 0  # first chunks that were refused, before any was taken
        self._takes_chunks = False

    def open(self) -> Session | None:
        """Return a new session, or None if the blob was mounted instead. Raises LayerTooLarge,
        InvalidOption."""
        mount_from, self.mount_from = self.mount_from, None
        opened = self._client.open_upload(
            self._repository, mount=self._blob.digest if mount_from else None, source=mount_from
        )
        if opened.location is None:
            return None
        profile = self._instead or profiles.detect(
            opened.location,
            opened.headers,
            registry=self._client.registry,
            learned=self._link.profile,
            forced=self._forced,
        )
        if self._once:
            self._instead, self._once = None, False
        try:
            if not self._blob.is_unfinished:
                check_size(self._blob.digest, self._blob.size, profile, self._client.registry)
        except LayerTooLarge:
            self._client.delete_upload(self._repository, opened.location)
            raise
        limits = chunk_sizes.announced_limits(
            opened.headers, profile, self._link.accepted_size(self._wanted_chunk)
        )
        self._link.round_trip = self._client.response_seconds
        wanted = self._link.first_size(self._wanted_chunk, profile, is_unfinished=self._blob.is_unfinished)
        if profile.equal_chunks and self._wanted_chunk is None:
            wanted = early_chunks.equal_size(wanted, self._blob)
        size = chunk_sizes.chunk_size(self._blob.size, wanted, limits, profile)
        session = Session(opened.location, size, limits, profile)
        self._journal.record_session(session)
        return session

    def mount(self) -> bool:
        """Return whether the blob was mounted, where it has an open session already; leave no second one."""
        source, self.mount_from = self.mount_from, None
        opened = self._client.mount_blob(self._repository, self._blob.digest, source) if source else None
        if opened is not None and opened.location is not None:
            with suppress(PusherError):
                self._client.delete_upload(self._repository, opened.location)
        return opened is not None and opened.location is None

    def shrink(self, session: Session, refused: int) -> Session | None:
        """Record that bodies of ``refused`` bytes are refused (413); return the session with smaller chunks.

        None if a new session is needed, no longer in one PUT as a stopgap. Raises ChunkTooLarge if no smaller
        chunks are accepted.
        """
        profile = session.profile
        if profile is MONOLITHIC and self._link.profile != profile.name and self._forced is None:
            self._tried.add(MONOLITHIC)
            self._instead = None
            return None
        at_most = min(session.chunk_size, self._link.accepted_size(self._wanted_chunk) or refused)
        size = (
            chunk_sizes.smaller_size(refused, session.limits, at_most=at_most, least=body_limit.LEAST)
            if profile.takes_chunks
            else None
        )
        if size is None:
            raise ChunkTooLarge(
                f"something in front of {self._client.registry} refuses bodies of {human_bytes(refused)} "
                "(413), and the registry takes no smaller chunks",
                hint="raise the body limit of the proxy in front of the registry",
            )
        self.record_size_refusal(size)
        limits = replace(session.limits, largest=size)
        size = chunk_sizes.chunk_size(self._blob.size, size, limits, profile)
        return replace(session, chunk_size=size, limits=limits, in_flight=0, closing=False)

    def record_size_refusal(self, size: int) -> None:
        """Record that an intermediary refused more than ``size`` bytes."""
        self._link.record_refusal(size)
        self._journal.record_facts(max_chunk=size)

    # --- another way of sending ---------------------------------------------------------------------------

    def switch_after_refusal(self, session: Session, answer: Answer) -> bool:
        """Return whether to send the blob in one PUT from now on, since a session's first chunk was refused.

        Unless the response says that chunks are not supported, two refusals are needed, and a registry that
        has accepted chunks before is assumed to have another reason. A response without a registry's error
        codes may be an intermediary's: it counts for this blob only and is not learned.
        """
        self._refused_starts += 1
        codes = read_message(answer).codes
        certain = answer.status in _NO_CHUNKS or "UNSUPPORTED" in codes
        proven = session.profile.proven or self._takes_chunks
        if certain or (self._refused_starts >= 2 and not proven):
            return self._switch(MONOLITHIC, worth_learning=bool(codes) and not proven)
        return False

    def record_accepted_chunk(self) -> None:
        """Record that the registry accepts chunks, so that a later refusal has another reason."""
        self._takes_chunks = True

    def switch_after_failed_close(self, session: Session, *, refused: bool) -> None:
        """Try the other way of sending after a closing PUT failed and cost the session, where nothing is
        known of the registry.

        ``refused``: the registry refused it, rather than failing or losing the session. One PUT cannot be
        resumed: it is tried once, and one failure teaches nothing.
        """
        if session.profile is not DEFAULT or not self._blob.size:
            return
        if session.is_sent_whole(self._blob.size):
            self._switch(CHUNKED, worth_learning=refused)
        else:
            self._once = self._switch(MONOLITHIC, worth_learning=False)

    def learn_profile(self, profile: Profile) -> None:
        """Store the profile that the registry turned out to have."""
        if profile.name != self._link.profile and self._forced is None:
            self._link.profile = profile.name
            self._journal.record_facts(profile=profile.name)

    def learn_version(self, profile: Profile) -> None:
        """Store which version of distribution it is, if an interrupted chunk showed it."""
        if profile in (profiles.DISTRIBUTION_2, profiles.DISTRIBUTION_3):
            self.learn_profile(profile)

    def confirm_profile(self, session: Session) -> None:
        """Use the way of sending that worked for this blob for the next ones, too."""
        if session.profile in self._tried and self._worth_learning:
            self.learn_profile(session.profile)

    def _switch(self, way: Profile, *, worth_learning: bool) -> bool:
        if way in self._tried:
            return False
        self._tried.add(way)
        self._instead, self._worth_learning = way, worth_learning
        return True

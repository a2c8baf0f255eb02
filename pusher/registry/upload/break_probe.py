"""Find out what the registry keeps of an interrupted chunk, and explain losses where it keeps nothing."""

from __future__ import annotations

from pusher.errors import PusherError
from pusher.registry.client import RegistryClient
from pusher.registry.upload import profiles
from pusher.registry.upload.profiles import Profile
from pusher.registry.upload.session import Session, is_cut_off, reported_offset
from pusher.registry.upload.uplink import LinkEstimate
from pusher.units import human_bytes


def find_profile(
    client: RegistryClient, repository: str, session: Session, before: str, link: LinkEstimate, left: int
) -> Profile:
    """Return the session's profile, refined by what is known of the registry or by a probe.

    ``before``: the session's location one chunk ago; ``left``: bytes of the blob that are not acknowledged.
    """
    if not link.pays_to_probe(left):
        return session.profile  # a break shows it, too
    learned = profiles.stored_profile(link.profile)
    if learned in (profiles.DISTRIBUTION_2, profiles.DISTRIBUTION_3):
        return learned
    if not link.begin_probe():
        return session.profile  # another upload is finding out
    try:
        return _probe(client, repository, session, before)
    finally:
        link.end_probe()


def _probe(client: RegistryClient, repository: str, session: Session, before: str) -> Profile:
    """Return the session's profile, refined by a status request to ``before``, its location one chunk ago.

    A registry that can resume inside a chunk answers for an older location, too; distribution 2.x refuses it,
    as it does after a break. The request costs nothing; a break would cost the session.
    """
    try:
        answer = client.get_upload_status(repository, before)
    except PusherError:
        return session.profile
    holds = answer.ok and reported_offset(answer) == session.offset
    return profiles.profile_after_break(session.profile, found=not is_cut_off(answer), grown=holds)


def explain_losses(registry: str, session: Session) -> str:
    """Return why the registry keeps nothing: the link breaks within the smallest chunk that it accepts."""
    return (
        f"the connection breaks again and again within a chunk of {human_bytes(session.chunk_size)}. "
        f"{registry} does not keep a part of a chunk, and smaller chunks are refused or too slow, so the "
        "chunk is sent from its start each time. To avoid that, use a more stable link, or fewer uploads at "
        "a time (--parallel 1)"
    )

"""Request the status of an upload session, and return where it stands."""

from __future__ import annotations

from dataclasses import replace

from pusher.errors import CredentialsRejected, PermissionDenied
from pusher.registry.answers import refusal
from pusher.registry.client import RegistryClient
from pusher.registry.upload import verdicts
from pusher.registry.upload.session import Session
from pusher.registry.upload.verdicts import PAUSE, Holds, Unusable


def request_status(
    client: RegistryClient,
    repository: str,
    session: Session,
    total: int,
    *,
    accepted: bool,
    may_repeat: bool,
) -> tuple[Session, Holds | Unusable]:
    """Return the offset that the registry reports (GET, end-13), and the session at its current location.

    ``total``: bytes of the blob; the others as for ``judge_status``. A registry that reports no offsets is
    not asked, and a login that may not ask leaves our own count. Raises what the client raises, and errors
    that are worth a retry.
    """
    if not session.profile.reports_offset:
        return session, verdicts.judge_unasked(session, total)
    try:
        answer = client.get_upload_status(repository, session.location)
    except (CredentialsRejected, PermissionDenied):
        answer = None
    if answer is not None and answer.status in PAUSE:
        raise refusal(answer, doing="asking for the state of an upload")
    standing = verdicts.judge_status(session, answer, accepted=accepted, may_repeat=may_repeat)
    if answer is not None and isinstance(standing, Holds) and standing.reported:
        location = client.location_of(answer, session.location) or session.location
        session = replace(session, location=location)
    return session, standing

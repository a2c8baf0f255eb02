"""Deleting upload sessions that will not be used again."""

from __future__ import annotations

from typing import Final

from pusher.errors import CredentialsRejected, PermissionDenied
from pusher.registry.client import RegistryClient
from pusher.registry.upload.session import is_cut_off

_GONE: Final = frozenset({404, 405, 410})
"""Answers to DELETE after which nothing is left to do: the session is gone, or none is ever deleted."""


def delete_session(client: RegistryClient, repository: str, location: str) -> bool:
    """Delete an upload's session; whether it is gone.

    After a chunk that broke off the location that is known is behind: distribution 3 answers DELETE with 416,
    and names the present one when it is asked. 2.x refuses both, and forgets the session after a week.
    Raises the transport's errors.
    """
    answer = client.delete_upload(repository, location)
    if answer.ok:
        return True
    try:
        status = client.get_upload_status(repository, location)
    except (CredentialsRejected, PermissionDenied):
        return False
    present = client.location_of(status) if status.ok else None
    if present is not None and present != location:
        answer = client.delete_upload(repository, present)
    return answer.ok or (answer.status in _GONE and not status.ok and not is_cut_off(status))

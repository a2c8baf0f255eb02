"""Delete upload sessions that will not be used again."""

from __future__ import annotations

from typing import Final

from pusher.errors import CredentialsRejected, PermissionDenied
from pusher.registry.client import RegistryClient
from pusher.registry.upload.session import is_cut_off

_GONE: Final = frozenset({404, 405, 410})
"""Responses to DELETE after which there is nothing to do: the session is gone, or DELETE is unsupported."""


def delete_session(client: RegistryClient, repository: str, location: str) -> bool:
    """Delete an upload's session; return whether it is gone.

    After an interrupted chunk the known location is out of date: distribution 3 answers DELETE with 416, and
    a status request returns the current one. 2.x refuses both and expires the session after a week.
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

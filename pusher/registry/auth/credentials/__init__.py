"""Where the credential for a registry comes from, and where a new one is kept.

``find`` has the order; ``authfile`` reads what Docker and Podman write, ``helper`` runs their programs,
``keep`` changes what ``login`` and ``logout`` have to.
"""

from __future__ import annotations

from pusher.registry.auth.credentials.credential import Credential
from pusher.registry.auth.credentials.find import find_credential

__all__ = ["Credential", "find_credential"]

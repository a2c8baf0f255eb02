"""Find the credential for a registry, and store new ones.

``find`` defines the order; ``authfile`` reads the files of Docker and Podman, ``helper`` runs their
credential helpers, ``keep`` stores and removes the logins of ``pusher login`` and ``logout``.
"""

from __future__ import annotations

from pusher.registry.auth.credentials.credential import Credential
from pusher.registry.auth.credentials.find import find_credential

__all__ = ["Credential", "find_credential"]

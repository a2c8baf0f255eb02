"""Decide whether a registry's name that does not resolve is a network outage or mistyped."""

from __future__ import annotations

import socket

from pusher.errors import PusherError, RegistryNameUnknown, iter_causes
from pusher.retry import RetryPolicy
from pusher.store.store import Store
from pusher.system import elapsed


class UnresolvedNames:
    """Records since when names do not resolve. Thread-safe. ``keeps_waiting``: no user waits for the run."""

    def __init__(self, store: Store, policy: RetryPolicy) -> None:
        self._store = store
        self._policy = policy
        self._since: dict[str, float] = {}
        self.keeps_waiting = True

    def classify(self, error: PusherError, registry: str) -> PusherError:
        """Return the error, or RegistryNameUnknown if the name has not resolved for a minute."""
        if self.limit(error, registry) is None:
            self._since.pop(registry, None)
            return error
        since = self._since.setdefault(registry, elapsed())
        if elapsed() - since < self._policy.unresolved:
            return error
        return RegistryNameUnknown(
            f"the host {registry.partition(':')[0]} cannot be found: its name has not resolved for a minute",
            hint="check the spelling of the registry's name, and the network; then push again",
        )

    def limit(self, error: PusherError, registry: str) -> float | None:
        """Return for how many seconds the error is retried before ``classify`` ends the job; None: it never
        does."""
        if self.keeps_waiting or not _is_unresolved(error) or self._store.uploads.has_any_at(registry):
            return None
        return self._policy.unresolved


def _is_unresolved(error: BaseException) -> bool:
    """Return whether a name without an address caused the error."""
    return any(isinstance(cause, socket.gaierror) for cause in iter_causes(error))

"""Keep what is learned about registries and links; only this module writes it to the store."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from pusher.errors import StoreError
from pusher.reference import is_loopback
from pusher.registry.upload.link_rate import LinkRate
from pusher.registry.upload.uplink import LinkEstimate
from pusher.spool.levels import choose_level
from pusher.store.records import RegistryFacts
from pusher.store.store import Store

_KEEP_EVERY: Final = 3.0
"""Seconds between two writes for one registry."""
_LIMITED: Final = 0.8
"""Part of the limit from which on a rate is that of the limit and not of the link."""
_RATE_VALID_FOR: Final = timedelta(days=7)
"""How long the rate of one registry says something about another one: a machine may be moved."""
_REFUSAL_VALID_FOR: Final = timedelta(days=1)
"""How long a refusal of larger chunks is remembered."""


class LinkEstimates:
    """The facts about every registry in use, shared by all uploads to it; without a store they are not kept.
    Thread-safe."""

    def __init__(
        self,
        store: Store | None,
        limit: Callable[[], float | None] = lambda: None,
        held_back: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``limit`` returns the bytes a second that the user allows at present, and ``held_back`` whether a
        rate that is divided among workers was too low a while ago: neither says anything about the link."""
        self._store = store
        self.limit = limit
        self.held_back = held_back
        self._clock = clock
        self._lock = threading.Lock()
        self._links: dict[str, LinkEstimate] = {}
        self._saved: dict[str, tuple[float, float | None, float | None, int]] = {}
        self._levels: dict[str, int | None] = {}

    def get(self, registry: str) -> LinkEstimate:
        """Return the facts about a registry, initially the stored ones. Raises StoreError."""
        with self._lock:
            if registry not in self._links:
                facts = self._store.facts.get(registry) if self._store else RegistryFacts(registry)
                link = LinkEstimate(
                    facts.profile,
                    facts.max_chunk,
                    facts.uplink,
                    facts.carries,
                    facts.breaks or 0,
                    LinkRate(facts.link_rate),
                )
                self._links[registry] = link
                self._saved[registry] = (self._clock(), link.uplink, link.carries, link.breaks)
                self._levels[registry] = facts.gzip_level
            link = self._links[registry]
            if link.is_limited:
                self._forget_old_refusals(registry, link)
            return link

    def _forget_old_refusals(self, registry: str, link: LinkEstimate) -> None:
        """Try a larger chunk once a day: limits are raised, and the cause may have been temporary."""
        facts = self._store.facts.get(registry) if self._store else RegistryFacts(registry)
        if self._store and facts.limited_at and self._store.now() - facts.limited_at >= _REFUSAL_VALID_FOR:
            self._store.facts.forget_limits(registry)
            link.forget_refusals()

    def learn(self, registry: str, *, profile: str | None, max_chunk: int | None) -> None:
        """Store the profile or the largest chunk that refusals showed. Raises StoreError."""
        changes = {"profile": profile, "max_chunk": max_chunk}
        known = {name: value for name, value in changes.items() if value is not None}
        if self._store and known:
            self._store.facts.update(registry, **known)

    def save(self, registry: str, *, at_once: bool = False) -> None:
        """Store new facts, at most once in an interval or ``at_once``. Raises StoreError."""
        with self._lock:
            link, (at, *before), now = self._links[registry], self._saved[registry], self._clock()
            uplink, carries, breaks = link.uplink, link.carries, link.breaks
            if [uplink, carries, breaks] == before or (now - at < _KEEP_EVERY and not at_once):
                return
            self._saved[registry] = (now, uplink, carries, breaks)
        if self._store:
            rate = link.rate.bytes_per_second
            known = {} if rate is None or self._is_limited(rate) else {"link_rate": rate}
            self._store.facts.update(registry, uplink=uplink, carries=carries, breaks=breaks, **known)

    def _is_limited(self, rate: float) -> bool:
        limit = self.limit()
        return limit is not None and (rate >= _LIMITED * limit or self.held_back())

    def rate_elsewhere(self, registry: str) -> float | None:
        """Return the bytes a second that the registry used last got, other than ``registry``; None if there
        is none of late. Raises StoreError.

        It says nothing about links within this machine, nor these about others.
        """
        if self._store is None:
            return None
        since = self._store.now() - _RATE_VALID_FOR
        rates = self._store.facts.recent_rates(since)
        local = is_loopback(registry)
        return next((rate for host, rate in rates if host != registry and is_loopback(host) is local), None)

    def choose_level(self, registry: str, rate: float, processors: float) -> int:
        """Return the gzip level for layers sent at ``rate`` bytes a second, and store it: it stays while the
        rate is about the same. Raises StoreError."""
        self.get(registry)
        with self._lock:
            before = self._levels[registry]
            level = self._levels[registry] = choose_level(rate, processors, before)
        if self._store and level != before:
            self._store.facts.update(registry, gzip_level=level)
        return level

    def close(self) -> None:
        """Store the remaining facts; errors of the store are ignored at the end of a run."""
        with contextlib.suppress(StoreError):
            for registry in list(self._links):
                self.save(registry, at_once=True)

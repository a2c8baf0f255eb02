"""What is true after a soak: every image arrived once and whole, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pusher.store import migrate
from tests.support.docker_registry import DockerRegistry
from tests.support.home import Home
from tests.support.images import Image
from tests.support.link import ShakyLink

CHUNK: Final = 200 * 1000
ORIGIN: Final = "origin/app"
"""Where jobs find their images that are in a registry."""
_CONTEXT: Final = 30
"""Lines of the log that are shown after a fault; half as many before it."""
_OVERHEAD: Final = 30_000
"""Bytes of a job's manifest and of the heads of its requests."""


def lines_of_faults(log: str) -> str:
    """Return the lines of the workers' log that no user should see, each with those around it."""
    lines = log.splitlines()
    found = [number for number, line in enumerate(lines) if "Traceback" in line or "bug" in line]
    shown = {near for number in found for near in range(number - _CONTEXT // 2, number + _CONTEXT)}
    return "\n".join(lines[number] for number in sorted(shown) if 0 <= number < len(lines))


class SoakResult:
    """Reads back what was pushed and compares it with what the faults explain."""

    def __init__(
        self,
        homes: Sequence[Home],
        registry: DockerRegistry,
        jobs: Mapping[int, tuple[str, Image]],
        figures: Counter[str],
    ) -> None:
        self._homes = homes
        self._store = homes[0].store
        self._registry = registry
        self._jobs = jobs
        self._figures = figures
        self._blobs: dict[str, int] = {}
        self._read: set[tuple[str, str]] = set()

    def check(self, link: ShakyLink, log: str) -> None:
        """Check everything; ``log`` is what the workers printed."""
        faults = lines_of_faults(log)
        assert not faults, faults
        for job_id, (repository, image) in self._jobs.items():
            events = self._store.events.of(job_id)
            assert [event.kind for event in events].count("succeeded") == 1, events
            self._read_back(repository, self._store.jobs.get(job_id).digest or "", image)
            for event in events:
                taker, _, dead = event.message.removeprefix("taken over by ").partition(" from ")
                assert not (event.kind == "running" and taker == dead.partition(",")[0]), event
        self._check_bytes(link)
        for home in self._homes:
            home.assert_clean()
            # a download that was cut off stays, within the spool's limit, where another machine did the rest
            left = list((home.settings.spool / "partial").iterdir())
            assert len(left) <= (self._breaks() if len(self._homes) > 1 else 0), left
        assert self._store.abandoned.all() == []
        assert migrate.check(self._homes[0].settings.database_url).problems == ()
        sessions = [*self._registry.data.rglob("_uploads/*")]
        self._figures["sessions left at the registry"] = len(sessions)
        assert len(sessions) <= self._breaks(), "more than can have had no response"
        self._figures["jobs"] = len(self._jobs)

    def _check_bytes(self, link: ShakyLink) -> None:
        """Each blob is sent once, whichever jobs and machines need it, and again where a fault lost bytes."""
        sent, wasted = Counter[str](), Counter[str]()
        for blobs in self._store.blobs.of_jobs(self._jobs).values():
            for blob in blobs:
                sent[blob.digest or ""] += blob.bytes_sent
                wasted[blob.digest or ""] += blob.bytes_wasted
        # a request that was answered to nobody is repeated, and not known to have been in vain
        twice = {d: sent[d] - wasted[d] - size for d, size in self._blobs.items()}
        twice = {digest: count for digest, count in twice.items() if count > 0}
        assert len(twice) <= self._breaks(), twice
        assert sum(twice.values()) <= self._breaks() * CHUNK, twice
        needed = sum(self._blobs.values())
        self._figures["bytes of blobs"], self._figures["bytes sent"] = needed, link.bytes_sent
        self._figures["bytes wasted"] = wasted.total()
        again = self._breaks() * max(self._blobs.values())
        assert link.bytes_sent <= needed + again + len(self._jobs) * _OVERHEAD

    def _breaks(self) -> int:
        """How many uploads the faults may have interrupted: those of the workers that they met."""
        workers = self._figures["kill"] + self._figures["freeze"] + self._figures["cut"]
        workers += self._figures["lose_machine"]
        return workers * self._homes[0].settings.parallel

    def _read_back(self, repository: str, digest: str, image: Image) -> None:
        manifest = json.loads(self._get(f"{repository}/manifests/{digest}", digest))
        assert manifest["config"]["digest"] == image.config_digest
        assert len(manifest["layers"]) == len(image.layers)
        for blob in (manifest["config"], *manifest["layers"]):
            if (repository, blob["digest"]) not in self._read:  # hundreds of jobs bring the same
                content = self._get(f"{repository}/blobs/{blob['digest']}", blob["digest"])
                assert len(content) == blob["size"]
                self._figures["blobs read back"] += 1
            self._read.add((repository, blob["digest"]))
            self._blobs[blob["digest"]] = blob["size"]

    def _get(self, path: str, digest: str) -> bytes:
        request = urllib.request.Request(
            f"{self._registry.url}/v2/{path}",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: Any = answer.read()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
        return bytes(content)

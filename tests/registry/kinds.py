"""Every registry that has a profile: its fake, and its profile with sizes that tests can send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from pusher.registry.upload import profiles
from pusher.registry.upload.profiles import PROFILES, Profile
from tests.registry.helpers import RULES, Push, pushing
from tests.support import fakeregistry as fakes
from tests.support.fakeregistry import Rules


@dataclass(frozen=True)
class Kind:
    """A registry, and what a break costs there."""

    rules: Rules
    profile: Profile
    break_costs: bool = False
    """A connection that breaks inside a chunk costs the session."""
    doubt_costs: bool = False
    """A lost reply costs the session."""
    by_answers: bool = True
    """Its answers alone show what it is; else it is known by its name, which a test cannot have."""

    @property
    def name(self) -> str:
        return self.profile.name


LOSES: Final = {"break_costs": True, "doubt_costs": True}
KINDS: Final = {
    kind.rules.name: kind
    for kind in (
        Kind(RULES["serverless"], replace(profiles.SERVERLESS, min_chunk=1000, max_chunk=20_000)),
        Kind(RULES["distribution-2"], profiles.DISTRIBUTION_2, **LOSES, by_answers=False),
        Kind(RULES["distribution-3"], profiles.DISTRIBUTION_3, by_answers=False),
        Kind(fakes.HARBOR, profiles.HARBOR, **LOSES, by_answers=False),
        Kind(fakes.DOCKER_HUB, profiles.DOCKER_HUB, **LOSES, by_answers=False),
        Kind(fakes.GITLAB, profiles.GITLAB, **LOSES, by_answers=False),
        Kind(fakes.GHCR.scaled(max=5000), replace(profiles.GHCR, max_chunk=5000)),
        Kind(
            fakes.ECR.scaled(min=1000, max=5000),
            replace(profiles.ECR, min_chunk=1000, max_chunk=5000),
            by_answers=False,
        ),
        Kind(fakes.GOOGLE, profiles.GOOGLE, **LOSES),
        Kind(fakes.ACR.scaled(whole=5000), replace(profiles.ACR, max_whole=5000), **LOSES),
        Kind(fakes.QUAY, profiles.QUAY),
        Kind(fakes.ZOT, profiles.ZOT, break_costs=True),
        Kind(fakes.ZOT_OLD, profiles.ZOT, break_costs=True),
        Kind(fakes.GITEA, profiles.GITEA),
        Kind(fakes.ARTIFACTORY, profiles.ARTIFACTORY, **LOSES),
        Kind(fakes.NEXUS, profiles.NEXUS, **LOSES),
        Kind(fakes.ALIYUN, profiles.ALIYUN, **LOSES, by_answers=False),
    )
}
IN_CHUNKS: Final = {name: kind for name, kind in KINDS.items() if not kind.profile.whole}
WHOLE: Final = {name: kind for name, kind in KINDS.items() if kind.profile.whole}


@contextmanager
def pushing_to(kind: Kind, folder: Path, *, forced: str | None, **options: object) -> Iterator[Push]:
    """A push to a registry of this kind, whose profile has the kind's sizes for as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, kind.name, kind.profile)
        with pushing(kind.rules, folder, forced=forced, **options) as push:
            yield push

"""Every check in its order: this machine's, then those of each registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from pusher.config import Settings, Timeouts
from pusher.doctor.check import Begin, Check, Course
from pusher.doctor.local import LocalChecks
from pusher.doctor.network import NetworkChecks
from pusher.doctor.registry import RegistryChecks
from pusher.doctor.target import Kind, RegistryTarget, Target
from pusher.errors import InvalidOption, PusherError
from pusher.reference import Place
from pusher.registry.http.transport import Transport
from pusher.store.records import UNFINISHED_STATES
from pusher.worker.registries import Registries

_PATIENCE: Final = 10.0
"""Seconds that each look at the network may take."""


@dataclass(frozen=True)
class Broken:
    """What was found broken before the checks began, each to be told by its check."""

    config: PusherError | None = None
    login: PusherError | None = None


def examine(target: Target, settings: Settings, *, broken: Broken, begin: Begin) -> Iterator[Check]:
    """Make the checks one by one; ``begin`` is told of each before it is made.

    Without an image or a registry those registries are examined that unfinished jobs go to, and the default.
    Nothing is changed but for a job store of an older schema, which is upgraded as by every command.
    """
    settings = replace(settings, timeouts=_quick(settings.timeouts))
    with closing(LocalChecks(target, settings, broken.config)) as local:
        course = Course(begin)
        yield from course.run(local.steps())
        destinations = _destinations(target, settings, local)
        if settings.username is not None and settings.login_registry is None:
            if len(destinations) > 1:
                broken = replace(broken, login=_for_one(settings))
            elif destinations:
                settings = replace(settings, login_registry=destinations[0].registry)
        for destination in destinations:
            yield from _at_registry(destination, settings, local, broken, begin, course)


def _for_one(settings: Settings) -> PusherError:
    """A password is shown to no registry that it may not be for."""
    return InvalidOption(
        f"{settings.login_source} is for one registry, and these are several",
        hint="name the one to be examined: pusher doctor REGISTRY",
    )


def _quick(timeouts: Timeouts) -> Timeouts:
    return Timeouts(
        connect=min(timeouts.connect, _PATIENCE),
        stall=min(timeouts.stall, _PATIENCE),
        answer=min(timeouts.answer, _PATIENCE),
        commit=min(timeouts.commit, _PATIENCE),
    )


def _destinations(target: Target, settings: Settings, local: LocalChecks) -> list[RegistryTarget]:
    if target.kind is not Kind.MACHINE:
        # A destination that cannot be read has its checks all the same, skipped.
        return [local.destination or RegistryTarget("")]
    found: dict[str, RegistryTarget] = {}
    if local.store is not None:
        for job in local.store.jobs.list(states=UNFINISHED_STATES):
            found.setdefault(job.registry, RegistryTarget(job.registry, job.repository, job.tag or ""))
    if settings.default_registry is not None:
        registry = Place.parse(settings.default_registry).registry
        found.setdefault(registry, RegistryTarget(registry))
    return list(found.values())


def _at_registry(
    destination: RegistryTarget,
    settings: Settings,
    local: LocalChecks,
    broken: Broken,
    begin: Begin,
    before: Course,
) -> Iterator[Check]:
    registry = destination.registry
    course = Course(begin, registry=registry, before=before)
    warnings: list[str] = []
    with (
        closing(Registries(local.store, settings, warnings.append)) as registries,
        closing(Transport(settings.timeouts, trust=registries.trust_in, connections=1)) as transport,
    ):
        network = NetworkChecks(registry, settings, transport, registries.trust_in, registries.headers)
        checks = RegistryChecks(
            destination, settings, registries, network, warnings, broken.login, local.sizes
        )
        yield from course.run([checks.credential_step(), *network.steps(), *checks.steps()])

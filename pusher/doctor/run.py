"""Run all checks: of this machine, then of each registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

from pusher.config import Settings, Timeouts
from pusher.dataclass import dataclass
from pusher.doctor.check import CheckResult, CheckRunner, OnCheck
from pusher.doctor.local import LocalChecks
from pusher.doctor.network import NetworkChecks
from pusher.doctor.registry import RegistryChecks
from pusher.doctor.target import RegistryTarget, Target, TargetKind
from pusher.errors import InvalidOption, PusherError
from pusher.reference import RegistryPath
from pusher.registry.http.transport import Transport
from pusher.store.records import UNFINISHED_STATES
from pusher.worker.registries import Registries

_REQUEST_TIMEOUT: Final = 10.0
"""Seconds that each request may take."""


@dataclass(frozen=True)
class EarlyErrors:
    """The errors of reading settings and login; each is reported by its check."""

    config: PusherError | None = None
    login: PusherError | None = None


def run_checks(
    target: Target, settings: Settings, *, errors: EarlyErrors, on_check: OnCheck
) -> Iterator[CheckResult]:
    """Run the checks one by one; ``on_check`` is called before each.

    Without an image or a registry, check the registries of unfinished jobs and the default one. Change
    nothing except a job store of an older schema, which every command upgrades.
    """
    settings = replace(settings, timeouts=_short_timeouts(settings.timeouts))
    with closing(LocalChecks(target, settings, errors.config)) as local:
        runner = CheckRunner(on_check)
        yield from runner.run(local.checks())
        destinations = _destinations(target, settings, local)
        if settings.username is not None and settings.login_registry is None:
            if len(destinations) > 1:
                errors = replace(errors, login=_login_error(settings))
            elif destinations:
                settings = replace(settings, login_registry=destinations[0].registry)
        for destination in destinations:
            yield from _registry_checks(destination, settings, local, errors, on_check, runner)


def _login_error(settings: Settings) -> PusherError:
    """Return the error for a login without a registry if there are several; it is sent to none."""
    return InvalidOption(
        f"{settings.login_source} is for one registry, and these are several",
        hint="name the one to be checked: pusher doctor REGISTRY",
    )


def _short_timeouts(timeouts: Timeouts) -> Timeouts:
    return Timeouts(
        connect=min(timeouts.connect, _REQUEST_TIMEOUT),
        stall=min(timeouts.stall, _REQUEST_TIMEOUT),
        answer=min(timeouts.answer, _REQUEST_TIMEOUT),
        commit=min(timeouts.commit, _REQUEST_TIMEOUT),
    )


def _destinations(target: Target, settings: Settings, local: LocalChecks) -> list[RegistryTarget]:
    if target.kind is not TargetKind.MACHINE:
        # Checks of an invalid destination are listed as skipped.
        return [local.destination or RegistryTarget("")]
    found: dict[str, RegistryTarget] = {}
    if local.store is not None:
        for job in local.store.jobs.list(states=UNFINISHED_STATES):
            found.setdefault(job.registry, RegistryTarget(job.registry, job.repository, job.tag or ""))
    if settings.default_registry is not None:
        registry = RegistryPath.parse(settings.default_registry).registry
        found.setdefault(registry, RegistryTarget(registry))
    return list(found.values())


def _registry_checks(
    destination: RegistryTarget,
    settings: Settings,
    local: LocalChecks,
    errors: EarlyErrors,
    on_check: OnCheck,
    before: CheckRunner,
) -> Iterator[CheckResult]:
    registry = destination.registry
    runner = CheckRunner(on_check, registry=registry, before=before)
    warnings: list[str] = []
    with (
        closing(Registries(local.store, settings, warnings.append)) as registries,
        closing(Transport(settings.timeouts, trust=registries.trust_for, connections=1)) as transport,
    ):
        network = NetworkChecks(registry, settings, transport, registries.trust_for, registries.headers)
        registry_checks = RegistryChecks(
            destination, settings, registries, network, warnings, errors.login, local.sizes
        )
        yield from runner.run(
            [registry_checks.credential_check(), *network.checks(), *registry_checks.checks()]
        )

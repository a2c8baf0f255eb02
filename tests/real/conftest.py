"""Tests with real registries and engines; the logs of those are shown with a test that fails."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.support.real import (  # noqa: F401 - pytest finds fixtures by name
    docker_engine,
    docker_registry,
    dockerd,
    log_sections,
    make_docker_registry,
    podman,
    podman_engine,
    read_back,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/real/" in item.path.as_posix():
            item.add_marker(pytest.mark.real)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.extend(log_sections())
    return report

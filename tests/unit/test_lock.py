"""The lock of the development environment, the workflow and the hooks of pre-commit fit the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / ".ci" / "locked.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = (ROOT / ".ci" / "run").read_text()

_ENTRY = re.compile(
    r"^([\w.-]+)==([\w.]+)(?: ; [^\\\n]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_every_line_of_the_lock_is_a_version_with_hashes() -> None:
    comment, _, entries = LOCK.partition("\n")
    assert comment.startswith("# ")
    assert _ENTRY.sub("", entries) == ""


def test_the_lock_has_every_dependency_in_a_version_that_the_project_allows() -> None:
    locked = {name: version for name, version, _ in _ENTRY.findall(LOCK)}
    wanted = PROJECT["dependencies"] + [
        r for extra in PROJECT["optional-dependencies"].values() for r in extra
    ]
    for requirement in wanted:
        if not requirement.startswith("pusher["):
            name, _, least = requirement.partition(">=")
            name = re.sub(r"\[.*\]", "", name)
            assert _number(locked[name]) >= _number(least), name


def test_ci_installs_from_the_lock_and_nothing_beside_it() -> None:
    assert '"$dev" -m pip install -q --require-hashes -r .ci/locked.txt\n' in RUN
    assert "install -q --no-deps -e ." in RUN
    assert "--upgrade" not in RUN


def test_the_workflow_runs_the_check() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.search(r"^ +- run: \.ci/run$", workflow, re.MULTILINE)
    assert workflow.count(" run: ") == 3
    assert all(
        re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", use) for use in re.findall(r"uses: (.+)", workflow)
    )


def test_pre_commit_fetches_nothing() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    assert set(re.findall(r"language: (\S+)", hooks)) == {"system"}
    assert [entry.split()[0] for entry in re.findall(r"entry: (.+)", hooks)] == ["ruff", "ruff", "mypy"]

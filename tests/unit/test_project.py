"""The project around the code: what pyproject.toml, the documents and the imports say agrees."""

from __future__ import annotations

import ast
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pusher
from pusher.store import migrate

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
SDIST = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]

_DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")
_WITH_OTHER_PACKAGES = {
    "psycopg": "psycopg",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
    "dotenv": "python-dotenv",
}
"""What pusher imports although it is no dependency of its own right."""
_IMPORTED_BY_OTHERS = {"psycopg", "httptools", "uvloop"}
"""What SQLAlchemy and uvicorn import by the names that pusher gives them."""


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~!; ]", requirement)[0].lower() for requirement in requirements} - {"pusher"}


def _runtime() -> set[str]:
    extras = PROJECT["optional-dependencies"]
    return _names(PROJECT["dependencies"] + [r for name in extras if name != "dev" for r in extras[name]])


def _reasons() -> dict[str, str]:
    """The rows of CONTRIBUTING.md's tables of dependencies; a row may name several."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Dependencies\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return {name: why for names, why in rows if why != "why" for name in names.split(", ")}


def _files() -> Iterator[Path]:
    """Every file that belongs to the project."""
    names = (".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "pyproject.toml")
    for name in (*names, *(entry.lstrip("/") for entry in SDIST["include"])):
        path = ROOT / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def test_every_dependency_has_a_reason_and_every_reason_a_dependency() -> None:
    reasons = _reasons()
    assert set(reasons) == _runtime() | _names(PROJECT["optional-dependencies"]["dev"])
    assert all(len(why.split()) >= 3 for why in reasons.values())


def test_pusher_imports_its_dependencies_and_nothing_else() -> None:
    imported: set[str] = set()
    for path in [*(ROOT / "pusher").rglob("*.py"), *(ROOT / "migrations").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).split(".")[0])
    foreign = {name for name in imported if name not in sys.stdlib_module_names and name != "pusher"}
    assert {_WITH_OTHER_PACKAGES.get(name, name) for name in foreign} | _IMPORTED_BY_OTHERS == _runtime()


def test_the_changelog_begins_with_this_version() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "pusher/__init__.py"
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == pusher.__version__


def test_the_changelog_is_in_order() -> None:
    """A version a heading, the newest first; all but the newest have the day of their release."""
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    newest, *older = headings
    assert re.fullmatch(r"\d+\.\d+\.\d+ \((unreleased|20\d\d-\d\d-\d\d)\)", newest)
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(20\d\d-\d\d-\d\d\)", heading) for heading in older)
    versions = [tuple(map(int, heading.split()[0].split("."))) for heading in headings]
    assert versions == sorted(set(versions), reverse=True)


def test_the_oldest_python_is_the_same_everywhere() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+", c)]
    assert named[0] == oldest
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert sys.version_info >= tuple(int(part) for part in oldest.split("."))


def test_the_migrations_are_in_the_wheel_where_pusher_looks_for_them() -> None:
    assert WHEEL["force-include"] == {"migrations": "pusher/_migrations"}
    assert WHEEL["packages"] == ["pusher"]
    found = migrate.folder()
    assert found in (ROOT / "migrations", Path(str(pusher.__file__)).parent / "_migrations")
    versions = sorted(path.name for path in (ROOT / "migrations" / "versions").glob("*.py"))
    assert versions
    assert sorted(path.name for path in (found / "versions").glob("*.py")) == versions


def test_the_sdist_is_enough_to_build_and_test() -> None:
    included = {entry.lstrip("/") for entry in SDIST["include"]}
    assert {"pusher", "migrations", "tests", "hatch_build.py", *_DOCUMENTS} == included
    assert WHEEL["hooks"]["custom"]["path"] in included
    assert PROJECT["readme"] in included
    assert set(PROJECT["license-files"]) <= included


def test_the_tests_that_the_threat_model_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 25
    missing = [
        (path, name)
        for path, name in named
        if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_the_files_that_the_map_names_exist() -> None:
    """CONTRIBUTING.md names files from the top of the repository or from ``pusher/``."""
    named = set(
        re.findall(r"`([\w./-]+(?:\.py|\.md|\.toml|\.txt|/))`", (ROOT / "CONTRIBUTING.md").read_text())
    )
    assert len(named) > 80
    assert [
        name for name in sorted(named) if not ((ROOT / name).exists() or (ROOT / "pusher" / name).exists())
    ] == []


@pytest.mark.parametrize("name", _DOCUMENTS)
def test_the_documents_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 50


def test_the_license_is_the_one_named() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    hosts = re.compile(r"\b(?:{})\b".format("|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org"))))
    assert [path for path in _files() if hosts.search(path.read_text(errors="replace"))] == []


def test_no_file_names_the_place_where_it_was_written() -> None:
    candidates = {ROOT, ROOT.parent, Path(sys.prefix)} - {Path(tempfile.gettempdir())}
    places = [str(place) for place in candidates if len(place.parts) > 2 and place.parts[1] != "usr"]
    assert places or sys.prefix == sys.base_prefix
    named = re.compile("|".join(rf"(?<![\w.}}-]){re.escape(place)}(?![\w-])" for place in places) or "(?!)")
    guilty = [path for path in _files() if named.search(path.read_text(errors="replace"))]
    assert guilty == []

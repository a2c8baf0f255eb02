"""The layer rule over the imports: who may know whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pusher

ROOT = Path(str(pusher.__file__)).parent

_BOTTOM = {
    "text",
    "secret",
    "system",
    "processors",
    "dataclass",
    "waiting",
    "units",
    "errors",
    "retry",
    "config",
    "reference",
    "oci",
}
_MIDDLE = {"sources", "spool", "registry", "store", "progress"}
_MAY_IMPORT = {
    "text": set(),
    "secret": set(),
    "system": set(),
    "processors": set(),
    "dataclass": set(),
    "waiting": set(),
    "units": set(),
    "errors": {"text", "secret", "dataclass"},
    "retry": {"errors", "dataclass"},
    "oci": {"text", "errors", "dataclass"},
    "config": {"text", "errors", "reference", "retry", "dataclass"},
    "reference": {"text", "errors", "oci", "dataclass"},
    **dict.fromkeys(_MIDDLE, _BOTTOM),
    "sources": _BOTTOM | {"registry"},
    "worker": _BOTTOM | _MIDDLE,
    "doctor": _BOTTOM | _MIDDLE | {"worker"},
    "serve": _BOTTOM | _MIDDLE | {"worker"},
    "cli": _BOTTOM | _MIDDLE | {"worker", "doctor", "help", "serve"},
    "help": {"dataclass"},
    "__main__": {"cli"},
    "__init__": set(),
}
_REGISTRY_FIRST = {"http", "answers", "locations"}
_REGISTRY = {
    "http": {"http"},
    "answers": {"http", "answers"},
    "locations": {"http", "locations"},
    "auth": _REGISTRY_FIRST | {"auth"},
    "upload": None,
}
"""What each part of ``pusher.registry`` may import of it; the other modules: all but ``upload``."""
_ROOT_ONLY = {"__version__", ""}
"""``import pusher`` for its version or its folder is no edge."""


def _files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def _part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imported_parts(tree: ast.AST) -> Iterator[str]:
    for name in _imported_names(tree):
        package, _, rest = name.partition(".")
        if package == "pusher" and (part := rest.partition(".")[0]) not in _ROOT_ONLY:
            yield part


def test_every_part_has_a_rule() -> None:
    assert {_part(path) for path in _files()} <= set(_MAY_IMPORT)


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    part = _part(path)
    imported = set(_imported_parts(ast.parse(path.read_text())))
    assert imported - {part} <= _MAY_IMPORT[part]


def test_registry_is_layered_as_well() -> None:
    """http, what answers and locations mean, auth, the client, and uploads at the top."""
    breaches = []
    for path in sorted((ROOT / "registry").rglob("*.py")):
        part = path.relative_to(ROOT / "registry").parts[0].removesuffix(".py")
        found = {name for name in _imported_names(ast.parse(path.read_text())) if "registry." in name}
        imported = {name.split(".")[2] for name in found if name.startswith("pusher.registry.")}
        allowed = _REGISTRY.get(part, imported - {"upload"})
        if allowed is not None and not imported <= allowed:
            breaches.append((str(path), imported - allowed))
    assert breaches == []


def _modules_imported(tree: ast.AST, package: str) -> set[str]:
    """The modules of ``package`` that are imported anywhere, inside of functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            found.add((node.module or "").removeprefix(f"{package}.").partition(".")[0])
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith(f"{package}.")]
            found |= {name.removeprefix(f"{package}.").partition(".")[0] for name in names}
    return found


def _find_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return modules that import one another in a circle; none where there is no circle."""

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        return next(
            (found for inner in imports.get(module, ()) if (found := walk(inner, [*path, module]))), []
        )

    return next((circle for module in imports if (circle := walk(module, []))), [])


@pytest.mark.parametrize("package", ["cli", "config", "errors", "progress"])
def test_modules_do_not_import_each_other_in_a_circle(package: str) -> None:
    paths = [path for path in (ROOT / package).glob("*.py") if path.stem != "__init__"]
    assert paths
    imports = {
        path.stem: _modules_imported(ast.parse(path.read_text()), f"pusher.{package}") for path in paths
    }
    assert _find_circle(imports) == []


def test_a_circle_is_found() -> None:
    late = ast.parse("def f():\n    from pusher.cli.a import x")
    assert _modules_imported(late, "pusher.cli") == {"a"}
    assert _find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints(path: Path) -> None:
    if _part(path) == "cli":
        return
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_the_rule_sees_a_breach() -> None:
    tree = ast.parse(
        "def f():\n    from pusher.worker import run\n    import pusher.cli.app\n    from pusher import oci"
    )
    assert set(_imported_parts(tree)) == {"worker", "cli", "oci"}

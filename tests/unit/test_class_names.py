"""One name, one class: whoever reads `Blob` need not ask which."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pusher

_ROOT = Path(str(pusher.__file__)).parent


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(_ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(_ROOT)))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}

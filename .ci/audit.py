"""Known holes in the versions of a lock (``name==version`` lines) or of this environment, without a network.

python .ci/audit.py [LOCK...]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

HOLES = Path(__file__).with_name("holes.txt")


def _lines(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def locked(path: Path) -> dict[str, str]:
    """The versions of a lock, by name."""
    lines = (line for line in _lines(path) if re.match(r"[\w.\[\]-]+==", line))
    pairs = (re.split(r"==|[ ;]", line) for line in lines)
    return {_name(pair[0].partition("[")[0]): pair[1].strip() for pair in pairs}


def audit(versions: Mapping[str, str]) -> list[str]:
    """A line for each known hole."""
    found = []
    for name, mended, hole in map(str.split, _lines(HOLES)):
        version = versions.get(_name(name))
        if version is not None and _number(version) < _number(mended):
            found.append(f"{name} {version} has {hole}: {mended} is without it")
    return found


def main() -> int:
    """0 if there is none."""
    installed = {_name(each.metadata["Name"]): each.version for each in distributions()}
    found = [line for path in sys.argv[1:] for line in audit(locked(Path(path)))] if sys.argv[1:] else []
    found = found if sys.argv[1:] else audit(installed)
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

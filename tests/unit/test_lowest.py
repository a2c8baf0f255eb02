"""The oldest versions that pusher allows: CI's lock says the same as pyproject.toml, without known holes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOWEST = ROOT / ".ci" / "lowest.txt"


def audit(lock: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py", lock], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_lock_has_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(line.lower().split("==") for line in LOWEST.read_text().splitlines() if "==" in line)
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["postgres"]]:
        name, bound = re.split(r"(?:\[.*\])?>=", requirement.partition(";")[0])
        assert re.sub(r"(\.0)+$", "", pins[name]) == re.sub(r"(\.0)+$", "", bound), name


def test_no_lower_bound_has_a_known_hole() -> None:
    assert audit(LOWEST) == (0, "")


@pytest.mark.parametrize("pin", ["urllib3==2.5.0", "Filelock==3.12.0", "requests[socks]==2.32.3 ; os_name"])
def test_a_known_hole_is_told(tmp_path: Path, pin: str) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"# a lock\n{pin}\n")
    code, told = audit(lock)
    assert code == 1
    assert "CVE-" in told

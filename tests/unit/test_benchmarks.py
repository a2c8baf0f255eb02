"""The programs in tests/benchmarks start: they run by hand only, so nothing else would show that one does
not."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROGRAMS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_benchmark_starts(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As by ``python -m``: each module of ours is imported anew, as one may import the other."""
    for loaded in [module for module in sys.modules if module.startswith("tests.benchmarks")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"tests.benchmarks.{name}", run_name="__main__", alter_sys=True)
    assert not end.value.code
    assert "--help" in capsys.readouterr().out

"""The processors that a process may use: bound to some, in cgroups of either version, in containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pusher.processors import SpareProcessors, count_processors, share


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def machine(root: Path, groups: str, **files: str) -> Path:
    """A machine whose process is in these cgroups; ``__`` in names of files stands for ``/``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("-", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu-max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu-max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu-max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu-max": "5000 100000\n"}, 1),
        ("0::/\n", {"cpu-max": "6400000 100000\n"}, 8),
        ("0::/a/b\n", {"a__b__cpu-max": "max 100000\n", "a__cpu-max": "300000 100000\n"}, 3),
        ("0::/hosts/own/path\n", {"cpu-max": "100000 100000\n"}, 1),
        (
            "3:cpuset:/\n1:cpu,cpuacct:/a\n",
            {"cpu__a__cpu-cfs_quota_us": "400000\n", "cpu__a__cpu-cfs_period_us": "100000\n"},
            4,
        ),
        (
            "1:cpu:/\n",
            {"cpu__cpu-cfs_quota_us": "-1\n", "cpu__cpu-cfs_period_us": "100000\n"},
            8,
        ),
        ("1:cpu:/\n", {"cpu__cpu-cfs_quota_us": "100000\n"}, 8),
        ("2:cpuset:/a\n", {"cpu__a__cpu-cfs_quota_us": "1\n", "cpu__a__cpu-cfs_period_us": "1\n"}, 8),
        ("0::/\n", {"cpu-max": "many\n"}, 8),
        ("nonsense\n0:\n::..\n", {}, 8),
        ("", {}, 8),
    ],
)
def test_quotas_count(tmp_path: Path, groups: str, files: dict[str, str], expected: int) -> None:
    assert count_processors(machine(tmp_path, groups, **files)) == expected


def test_without_cgroups_those_that_it_is_bound_to(tmp_path: Path) -> None:
    assert count_processors(tmp_path) == 8


def test_without_bindings_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert count_processors(tmp_path) == os.cpu_count()


def test_this_machine() -> None:
    assert count_processors.__wrapped__() in range(1, 9)


@pytest.mark.parametrize(
    ("wanted", "others", "processors", "expected"),
    [(2, 0, 2, 2), (2, 2, 2, 1), (2, 14, 2, 0.25), (2, 40, 64, 2), (1, 3.5, 4, 4 / 4.5), (16, 0, 8, 8)],
)
def test_a_busy_machine_is_shared(wanted: int, others: float, processors: int, expected: float) -> None:
    assert share(wanted, others, processors) == pytest.approx(expected)


def test_the_load_of_this_process_is_not_that_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, spent = [100.0], [0.0]
    monkeypatch.setattr("pusher.processors.time.monotonic", lambda: now[0])
    monkeypatch.setattr("pusher.processors.time.process_time", lambda: spent[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.0, 0.0, 0.0))
    spare = SpareProcessors(tmp_path)
    assert spare.count(2) == 1
    now[0], spent[0] = 160.0, 120.0
    assert spare.count(2) == 2


def _stat(root: Path, *, busy: float, idle: float = 0) -> None:
    (root / "proc").mkdir(exist_ok=True)
    used = round(busy * os.sysconf("SC_CLK_TCK"))
    (root / "proc/stat").write_text(f"cpu  {used} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1\n", "ascii")


@pytest.mark.parametrize(
    ("seconds", "busy", "own", "expected"),
    [
        (0.5, 0.0, 0.0, 2.0),  # what the load average still shows has ended, or waits for a disk
        (0.5, 0.5, 0.5, 2.0),  # only this process works
        (10.0, 20.0, 19.0, 2 * 2 / 2.1),  # hardly another one, or it would get more
        (0.5, 1.0, 0.0, 2 * 2 / 10),  # others work, perhaps more than there are processors
        (10.0, 20.0, 10.0, 2 * 2 / 10),  # they share them with this process
        (10.0, 10.0, 0.0, 2 * 2 / 3),  # a processor is free
        (0.01, 0.0, 0.0, 2 * 2 / 10),  # too short a time to tell
        (90.0, 0.0, 0.0, 2 * 2 / 10),  # too long
    ],
)
def test_a_load_that_is_over_does_not_count(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    busy: float,
    own: float,
    expected: float,
) -> None:
    now, spent = [100.0], [0.0]
    monkeypatch.setattr("pusher.processors.time.monotonic", lambda: now[0])
    monkeypatch.setattr("pusher.processors.time.process_time", lambda: spent[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (8.0 + own / 60, 0.0, 0.0))
    _stat(tmp_path, busy=1000)
    spare = SpareProcessors(tmp_path)
    now[0], spent[0] = 100 + seconds, own
    _stat(tmp_path, busy=1000 + busy)
    assert spare.count(2) == pytest.approx(expected, rel=0.02)


def test_after_a_long_rest_it_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pusher.processors.time.monotonic", lambda: now[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    _stat(tmp_path, busy=1000)
    spare = SpareProcessors(tmp_path)
    now[0] = 1000.0
    spare.begin()
    now[0] = 1001.0
    assert spare.count(2) == 2


def test_a_system_without_load_average(monkeypatch: pytest.MonkeyPatch) -> None:
    def unobtainable() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", unobtainable)
    assert SpareProcessors().count(3) == 3

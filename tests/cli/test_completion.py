"""TAB: the scripts, the protocol behind them, and a real bash."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pusher.cli.app import cli
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job, claim
from tests.support.fake_engine import FakeEngine
from tests.support.real import require

SHELLS = ["bash", "zsh", "fish", "powershell"]


def _complete(pusher: Pusher, *words: str) -> list[str]:
    """What is offered for the last word, by PowerShell's protocol."""
    result = _answer(pusher, "powershell", "\n".join(["pusher", *words]))
    return [line.partition("\t")[0] for line in result]


def _answer(pusher: Pusher, shell: str, words: str, cword: int = 0) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_PUSHER_COMPLETE", f"{shell}_complete")
        patch.setenv("COMP_WORDS", words)
        patch.setenv("COMP_CWORD", str(cword))
        result = pusher()
    assert (result.code, result.err) == (0, "")
    return [line for line in result.out.splitlines() if line]


def test_commands_options_and_choices(pusher: Pusher) -> None:
    assert _complete(pusher, "") == cli.list_commands(None)  # type: ignore[arg-type]
    assert _complete(pusher, "re") == ["resume", "retry", "registry"]
    assert _complete(pusher, "db", "up") == ["upgrade"]
    assert _complete(pusher, "help", "re") == ["registries", "resume", "retry", "registry"]
    assert _complete(pusher, "help", "db", "") == ["upgrade", "check"]
    assert _complete(pusher, "push", "--limit") == ["--limit-rate"]
    assert _complete(pusher, "push", "--progress", "") == ["auto", "tty", "lines", "json", "none"]
    assert _complete(pusher, "completion", "") == SHELLS
    for command in ("push", "enqueue", "run"):
        assert _complete(pusher, command, "--compression", "") == ["keep", "gzip", "zstd", "none", "auto"]
    assert _complete(pusher, "push", "--compression", "g") == ["gzip"]
    assert _complete(pusher, "push", "--platform", "linux/arm") == [
        "linux/arm64",
        "linux/arm/v7",
        "linux/arm/v6",
    ]
    assert "linux/amd64" not in _complete(pusher, "push", "--platform", "linux/amd64", "--platform", "")
    assert _complete(pusher, "push", "--profile", "distribution-") == ["distribution-2", "distribution-3"]


def test_job_ids_are_those_the_command_can_work_on(pusher: Pusher, store: Store) -> None:
    queued, running, paused = (add_job(store, f"app:{number}") for number in range(3))
    claim(store, running)
    store.jobs.pause(paused.id)
    ids = [str(job.id) for job in (queued, running, paused)]
    assert _complete(pusher, "log", "") == ids[::-1]
    assert _complete(pusher, "status", "") == ids[::-1]
    assert _complete(pusher, "resume", "") == [ids[2]]
    assert _complete(pusher, "pause", "") == [ids[1], ids[0]]
    assert _complete(pusher, "pause", ids[1], "") == [ids[0]]
    assert _complete(pusher, "cancel", ids[2]) == [ids[2]]
    assert _complete(pusher, "log", "%") == _complete(pusher, "log", "9") == []
    line = _answer(pusher, "powershell", "pusher\nresume\n")
    assert line == [f"{ids[2]}\tpaused: app:2"]


def test_without_a_store_none_is_made(pusher: Pusher, home: Path) -> None:
    assert _complete(pusher, "log", "") == []
    assert not home.exists()


def test_trouble_is_never_shown(
    pusher: Pusher, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "jobs.db").write_bytes(b"this is not a database at all, not at all" * 100)
    assert _complete(pusher, "log", "") == []
    monkeypatch.setenv("PUSHER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert _complete(pusher, "log", "") == []
    (tmp_path / "pusher.toml").write_text("broken = ")
    monkeypatch.setenv("PUSHER_CONFIG", str(tmp_path / "pusher.toml"))
    assert _complete(pusher, "log", "") == []


def test_image_names(pusher: Pusher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    engine.on("ls", "printf 'app:1.2\\napp:1.3\\nother:1\\n<none>:<none>\\napp:1.2\\n'")
    assert _complete(pusher, "push", "app:1") == ["app:1.2", "app:1.3"]
    assert _complete(pusher, "enqueue", "") == ["app:1.2", "app:1.3", "other:1"]
    calls = len(engine.calls())
    assert _complete(pusher, "push", "./app") == []
    assert len(engine.calls()) == calls, "a path is no image's name"
    engine.fails("ls", "Cannot connect to the Docker daemon")
    assert _complete(pusher, "push", "app") == []


def test_an_engine_that_does_not_answer_is_not_waited_for(
    pusher: Pusher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    monkeypatch.setattr("pusher.cli.completers._ENGINE_TIMEOUT", 0.1)
    engine.on("ls", "exec /bin/sleep 60")
    assert _complete(pusher, "push", "app") == []


@pytest.mark.parametrize(("shell", "offer"), [("bash", "file,"), ("zsh", "file"), ("fish", "file,")])
def test_files_are_left_to_the_shell(pusher: Pusher, shell: str, offer: str) -> None:
    answer = _answer(pusher, shell, "pusher push --ca-cert ", cword=3)
    assert answer[0].startswith(offer)
    assert _complete(pusher, "push", "--ca-cert", "") == [], "PowerShell offers files itself"


def test_a_windows_path_is_one_word(pusher: Pusher) -> None:
    assert _complete(pusher, "push", "C:\\my images\\app.tar", "--prof") == ["--profile"]


@pytest.mark.parametrize("words", ["pusher\npush\n--l", "pusher\ncompletion\n", "pusher\n"])
def test_what_needs_no_library_imports_none(words: str) -> None:
    program = (
        "import sys\nfrom pusher.cli import main\n"
        "try:\n    main([])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('requests', 'sqlalchemy', 'alembic', 'rich') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "_PUSHER_COMPLETE": "powershell_complete", "COMP_WORDS": words},
    )
    assert len(done.stdout.splitlines()) > 1
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_asks_pusher_by_its_name(pusher: Pusher, shell: str) -> None:
    script = pusher("completion", shell)
    assert (script.code, script.err) == (0, "")
    assert "_PUSHER_COMPLETE" in script.out
    assert f"{shell}_complete" in script.out
    assert script.out.endswith("\n")
    assert shell in pusher("completion", "--help").out


def test_another_shell(pusher: Pusher) -> None:
    result = pusher("completion")
    error, hint = result.err.splitlines()
    assert error == "error: missing argument '{bash|zsh|fish|powershell}'"
    assert hint.startswith("  hint: usage: pusher completion [OPTIONS] {bash|zsh|fish|powershell}; ")
    result = pusher("completion", "tcsh")
    assert result.code == 2
    assert "'bash', 'zsh', 'fish', 'powershell'" in result.err


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with ``pusher`` and a ``docker`` that has two images."""
    folder = tmp_path / "commands"
    FakeEngine(folder).on("ls", "printf 'app:1.2\\nr.example/team/app:2\\n'")
    pusher = folder / "pusher"
    pusher.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pusher "$@"\n')
    pusher.chmod(0o755)
    return folder


def _run(shell: str, script: str, commands: Path, folder: Path) -> list[str]:
    require(shell)
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [shell, "-c", script], capture_output=True, text=True, timeout=60, env=environ, cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


_BASH = """
eval "$(pusher completion bash)"
complete -p pusher
for COMP_LINE in "$@"; do
    COMP_POINT=${#COMP_LINE}
    _pusher_completion pusher
    echo "$COMP_LINE|${COMPREPLY[*]}"
done
"""


def test_in_bash(commands: Path, tmp_path: Path, store: Store) -> None:
    add_job(store)
    lines = {
        "pusher pu": "push",
        "pusher push --progress=l": "lines",
        "pusher push app:": "1.2",
        "pusher push r": "r.example/team/app:2",
        "pusher push r.example/team/app:": "2",
        "pusher log ": "1",
        "pusher push 'unfinished": "",
        "pusher push --parallel 2 --ca": "--ca-cert",
    }
    quoted = " ".join(shlex.quote(line) for line in lines)
    out = _run("bash", f"set -- {quoted}\n{_BASH}", commands, tmp_path)
    assert out[0] == "complete -o nosort -F _pusher_completion pusher"
    assert out[1:] == [f"{line}|{offer}" for line, offer in lines.items()]


def test_the_scripts_are_valid_for_their_shells(commands: Path, tmp_path: Path) -> None:
    installed = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]
    assert "bash" in installed
    for shell in installed:
        _run(shell, f"pusher completion {shell} > script; {shell} -n script", commands, tmp_path)

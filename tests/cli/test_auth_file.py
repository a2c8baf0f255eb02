"""``--authfile``, ``--src-authfile`` and ``--dest-authfile``; names that other tools have."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pusher import __version__
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.images import make_image, write_archive
from tests.worker.origin import name_of, put

READER, WRITER = ("reader", "r3ad"), ("writer", "wr1te")


def auth_file(path: Path, login: tuple[str, str], *registries: str) -> str:
    token = base64.b64encode(":".join(login).encode()).decode()
    path.write_text(json.dumps({"auths": {registry: {"auth": token} for registry in registries}}))
    return str(path)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(write_archive(tmp_path / "app.tar", make_image(300, names=("app:1",))))


def test_the_file_is_the_only_source_of_logins(pusher: Pusher, tmp_path: Path, archive: str) -> None:
    with FakeRegistry(DISTRIBUTION_3, credentials=WRITER) as registry:
        docker = Path.home() / ".docker" / "config.json"
        docker.parent.mkdir(exist_ok=True)
        auth_file(docker, ("wrong", "wrong"), registry.address)
        right = auth_file(tmp_path / "auth.json", WRITER, registry.address)
        to = ("--to", registry.address, "--plain-http")
        assert pusher("push", archive, *to).code == 4
        assert pusher("push", archive, *to, "--authfile", right).code == 0
        pusher("enqueue", archive, "--to", f"{registry.address}/other:1")
        assert pusher("run", "--plain-http", "--authfile", right).code == 0
        assert pusher("doctor", registry.address, "--plain-http", "--authfile", right).code == 0


def test_source_and_destination_have_files_of_their_own(pusher: Pusher, tmp_path: Path) -> None:
    with (
        FakeRegistry(DISTRIBUTION_3, credentials=READER) as origin,
        FakeRegistry(DISTRIBUTION_3, credentials=WRITER) as registry,
    ):
        put(origin, make_image(300))
        places = (origin.address, registry.address)
        source = auth_file(tmp_path / "source.json", READER, *places)
        destination = auth_file(tmp_path / "destination.json", WRITER, *places)
        push = ("push", name_of(origin), "--to", f"{registry.address}/app:1", "--plain-http")
        assert pusher(*push, "--authfile", source).code == 4
        assert pusher(*push, "--src-authfile", source, "--dest-authfile", destination).code == 0
        push = ("push", name_of(origin), "--to", f"{origin.address}/app:1", "--plain-http")
        result = pusher(*push, "--src-authfile", source, "--dest-authfile", destination)
        assert result.code == 2
        assert f"are two files for {origin.address}" in result.err


def test_a_file_that_is_not_there(pusher: Pusher, archive: str) -> None:
    result = pusher("push", archive, "--to", "r.example", "--dest-authfile", "none.json")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: --dest-authfile: there is no file 'none.json'\n")


def test_names_that_other_tools_have(pusher: Pusher, store: Store) -> None:
    for typed in (("-V",), ("version",)):
        assert pusher(*typed).out == f"pusher {__version__}\n"
    add_job(store)
    assert pusher("ls", "--json").out == pusher("status", "--json").out
    assert pusher("rm", "1").code == 0
    assert json.loads(pusher("ls", "1", "--json").out)["jobs"][0]["state"] == "cancelled"
    assert "-j, --parallel" in pusher("run", "--help").out
    assert pusher("run", "-j", "2").code == 0


def test_a_login_on_the_command_line_is_refused_with_what_to_do(pusher: Pusher) -> None:
    result = pusher("push", "--src-creds", "bob:hunter2", "docker://r.example/a:1")
    assert result.code == 2
    assert "did you mean --src-authfile FILE?" in result.err
    assert "hunter2" not in result.err

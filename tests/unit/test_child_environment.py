"""What other programs find in their environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.config import Settings
from pusher.config.child_environment import engine_environment, helper_environment
from pusher.registry.auth.credentials import find_credential
from pusher.sources.engine.command import DOCKER, CommandOutput, run_command
from tests.support.credential_helper import helper_on_path

_OURS = {
    "PUSHER_PASSWORD": "s3cr3t-1",
    "PUSHER_DATABASE_URL": "postgresql://ann:s3cr3t-2@db.example/jobs",
    "DOCKER_AUTH_CONFIG": '{"auths": {"r.example": {"auth": "czNjcjN0LTM6czNjcjN0LTM="}}}',
    "PGPASSWORD": "s3cr3t-4",
}
_OF_A_CLOUD = {
    "AWS_SECRET_ACCESS_KEY": "s3cr3t-5",
    "AWS_SESSION_TOKEN": "s3cr3t-6",
    "GITHUB_TOKEN": "s3cr3t-7",
}
_OTHERS = {
    "DATABASE_URL": "mysql://root:s3cr3t-8@db.example/x",
    "MYSQL_PASS": "s3cr3t-9",
    "API_KEY": "s3cr3t-0",
}
_NEEDED = {
    "DOCKER_HOST": "ssh://ann@host.example",
    "DOCKER_CERT_PATH": "/certs",
    "SSH_AUTH_SOCK": "/run/agent",
    "CONTAINER_SSHKEY": "/home/ann/.ssh/id",
    "HTTPS_PROXY": "http://ann:pw@proxy.example:3128",
    "TOKENIZERS_DIR": "/x",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**_OURS, **_OF_A_CLOUD, **_OTHERS, **_NEEDED}.items():
        monkeypatch.setenv(name, value)


def test_engines_get_no_secret() -> None:
    given = engine_environment()
    assert not {*_OURS, *_OF_A_CLOUD, *_OTHERS} & given.keys()
    assert _NEEDED.items() <= given.items()
    assert "PATH" in given


def test_helpers_get_what_their_cloud_wants() -> None:
    given = helper_environment()
    assert not _OURS.keys() & given.keys()
    assert (_OF_A_CLOUD | _NEEDED).items() <= given.items()


def test_the_programs_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = helper_on_path(tmp_path / "bin", monkeypatch)
    seen = tmp_path / "seen"
    helper.behave(f"""env > {seen}; echo '{{"Username": "ann", "Secret": "pw"}}'""")
    config = tmp_path / "config.json"
    config.write_text('{"credsStore": "test"}')
    find_credential("r.example", Settings(home=tmp_path, database_url="", docker_config=config))
    text = seen.read_text()
    assert "AWS_SECRET_ACCESS_KEY=s3cr3t-5" in text
    assert not [value for value in _OURS.values() if value in text]

    engine = tmp_path / "bin" / "docker"
    engine.write_text("#!/bin/sh\nenv\n")
    engine.chmod(0o755)
    with CommandOutput(DOCKER, "save", "app") as output:
        saved = output.read(1 << 16).decode()
    for text in (run_command(DOCKER, "image", "inspect", "app"), saved):
        assert "SSH_AUTH_SOCK=/run/agent" in text
        assert "s3cr3t" not in text

"""Debian's docker-registry with TLS and htpasswd: its authority named in every way, client certificates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from pusher.store.records import JobState
from tests.support.certificates import inspection_ca, write_ca, write_pair
from tests.support.docker_registry import CREDENTIALS, DockerRegistry
from tests.support.home import Home
from tests.support.images import make_image, write_archive
from tests.support.real import ReadBack

_IMAGE = make_image(2_000_000, 1_000, compressible=0.1)
_CHUNK = 400_000

MakeRegistry = Callable[..., DockerRegistry]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return inspection_ca()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("image") / "app.tar", _IMAGE)


def _tls(authority: trustme.CA, folder: Path) -> dict[str, Any]:
    certificate, key = folder / "registry.pem", folder / "registry-key.pem"
    write_pair(authority.issue_cert("127.0.0.1"), certificate, key)
    return {"certificate": str(certificate), "key": str(key), "minimumtls": "tls1.2"}


def _home(folder: Path, **settings: Any) -> Home:
    user, password = CREDENTIALS
    return Home(folder / "home", chunk_size=_CHUNK, username=user, password=password, **settings)


def _right(read_back: ReadBack, reference: str) -> None:
    read = read_back(reference, credentials=CREDENTIALS)
    assert read.config == _IMAGE.config
    assert tuple(layer.diff_id for layer in read.layers) == _IMAGE.diff_ids


@pytest.mark.parametrize("way", ["ca_cert", "certs_dirs", "insecure"])
def test_push(
    make_docker_registry: MakeRegistry,
    authority: trustme.CA,
    archive: Path,
    read_back: ReadBack,
    way: str,
    tmp_path: Path,
) -> None:
    registry = make_docker_registry(authenticated=True, tls=_tls(authority, tmp_path))
    settings: dict[str, Any] = {
        "ca_cert": write_ca(authority, tmp_path / "ca.pem"),
        "certs_dirs": (tmp_path / "certs.d",),
        "insecure": frozenset({registry.address}),
    }
    write_ca(authority, tmp_path / "certs.d" / registry.address / "ca.crt")
    with _home(tmp_path, **{way: settings[way]}) as home:
        home.push(archive, f"{registry.address}/team/app:1")
    _right(read_back, f"{registry.address}/team/app:1")


def test_authority_that_nobody_named(
    make_docker_registry: MakeRegistry, authority: trustme.CA, archive: Path, tmp_path: Path
) -> None:
    registry = make_docker_registry(authenticated=True, tls=_tls(authority, tmp_path))
    with _home(tmp_path) as home:
        job = home.enqueue(archive, f"{registry.address}/team/app:1")
        result = home.run([job.id])
        assert result.exit_code == 3
        failed = home.job(job.id)
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert "Gateway CA - Cloudflare Managed G1" in failed.error.message


def test_client_certificate(
    make_docker_registry: MakeRegistry, authority: trustme.CA, archive: Path, tmp_path: Path
) -> None:
    clients = trustme.CA()
    tls = _tls(authority, tmp_path) | {"clientcas": [str(write_ca(clients, tmp_path / "clients.pem"))]}
    registry = make_docker_registry(authenticated=True, tls=tls)
    folder = tmp_path / "certs.d" / registry.address
    write_ca(authority, folder / "ca.crt")
    with _home(tmp_path, certs_dirs=(tmp_path / "certs.d",)) as home:
        job = home.enqueue(archive, f"{registry.address}/team/app:1")
        assert home.run([job.id]).exit_code == 4
        assert "client certificate" in str(home.job(job.id).error)
        write_pair(clients.issue_cert("ann@a.example"), folder / "client.cert", folder / "client.key")
        home.push(archive, f"{registry.address}/team/app:1")

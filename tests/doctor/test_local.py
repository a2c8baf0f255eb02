"""The doctor on this machine: references, images, the job store, the disk. Registries are well."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest

from pusher.doctor import EarlyErrors, Status, parse_target, run_checks
from pusher.errors import (
    ArchiveTruncated,
    ConfigInvalid,
    DiskFull,
    EngineMissing,
    EngineNotRunning,
    HomeUnusable,
    ImageNotFound,
    InvalidOption,
    PusherError,
    ReferenceMalformed,
    StoreCorrupt,
    StoreReadOnly,
    StoreTooNew,
)
from tests.doctor.diagnosis import EVERY, after, diagnose, settings_in, stay_here
from tests.store.privileges import like_any_user
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home
from tests.support.images import Image, make_image, truncated, write_archive

OF_THE_REGISTRY = after("reference")


@pytest.fixture(autouse=True)
def _stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """A Docker, and nothing else in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return FakeEngine(tmp_path / "bin")


def test_all_is_well_with_an_archive(archive: Path, home: Home, to: str, registry: FakeRegistry) -> None:
    found = diagnose(str(archive), home.settings, to=to)
    found.assert_healthy(skipped=["TLS"])
    assert f"registry {registry.address}, repository team/app, tag 1.2" in found["reference"].message
    assert f"{registry.url}/v2/team/app/blobs/uploads/" in found["reference"].message
    assert f"{registry.url}/v2/team/app/manifests/1.2" in found["reference"].message
    assert f"found in {archive}" in found["image"].message
    assert "3 layers" in found["image"].message
    assert "no jobs" in found["job store"].message
    assert str(home.settings.spool) in found["disk"].message
    assert registry.sessions == {}


def test_all_is_well_with_docker(
    docker: FakeEngine, image: Image, archive: Path, home: Home, to: str
) -> None:
    docker.has(image, archive)
    found = diagnose("app:1.2", home.settings, to=to)
    found.assert_healthy(skipped=["TLS"])
    assert "found in Docker" in found["image"].message


def test_nothing_is_made_where_nothing_is_yet(tmp_path: Path) -> None:
    home = tmp_path / "not" / "there"
    found = diagnose(None, settings_in(home))
    assert found.of(Status.FAILED) == []
    assert f"the first push creates it at {home / 'jobs.db'}" in found["job store"].message
    assert not home.parent.exists()


# --- the reference ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word", "fixed"),
    [
        ("localhost:5000/team//app:1.2", "two slashes in a row", "localhost:5000/team/app:1.2"),
        ("localhost:5000/Team/App:1.2", "upper-case", "localhost:5000/team/app:1.2"),
        ("localhost:5000/app:1.2:3", "more than one colon", "localhost:5000/app:3"),
        ("https://localhost:5000/app:1.2", "begins with https://", "localhost:5000/app:1.2"),
        ("localhost:99999/app:1.2", "port '99999'", "1 to 65535"),
    ],
)
def test_a_reference_that_cannot_be_read(home: Home, text: str, word: str, fixed: str) -> None:
    found = diagnose(text, home.settings)
    skipped = ["image", *OF_THE_REGISTRY]
    found.assert_failed("reference", ReferenceMalformed, word, fixed, skipped=skipped)
    assert found["push"].message == "because the check reference failed"


def test_a_wrong_destination_hides_no_image(archive: Path, home: Home) -> None:
    found = diagnose(str(archive), home.settings, to="localhost:5000/APP")
    found.assert_failed("reference", ReferenceMalformed, "upper-case", skipped=OF_THE_REGISTRY)


def test_an_archive_without_a_name(tmp_path: Path, home: Home) -> None:
    archive = write_archive(tmp_path / "nameless.tar", make_image(300, names=()))
    found = diagnose(str(archive), home.settings)
    found.assert_failed("reference", InvalidOption, "no name", "--to", skipped=OF_THE_REGISTRY)


def test_an_archive_names_its_destination(tmp_path: Path, home: Home, registry: FakeRegistry) -> None:
    image = make_image(300, names=(f"{registry.address}/team/app:7",))
    found = diagnose(str(write_archive(tmp_path / "app.tar", image)), home.settings)
    found.assert_healthy(skipped=["TLS"])
    assert "tag 7" in found["reference"].message


# --- the image --------------------------------------------------------------------------------------------


class Engines(NamedTuple):
    says: str | None
    error: type[PusherError]
    words: tuple[str, ...]


@pytest.mark.parametrize(
    "case",
    [
        Engines("Error: No such image: app:1.2", ImageNotFound, ("Docker has no image app:1.2",)),
        Engines(
            "Cannot connect to the Docker daemon at unix:///d.sock. Is the docker daemon running?",
            EngineNotRunning,
            ("Docker does not respond", "systemctl start docker"),
        ),
        Engines(None, EngineMissing, ("docker` command is not installed",)),
    ],
    ids=lambda case: case.error.code,
)
def test_docker_has_no_image(docker: FakeEngine, home: Home, to: str, case: Engines) -> None:
    if case.says is None:
        shutil.rmtree(docker.folder)
    else:
        docker.fails("inspect", case.says)
    diagnose("app:1.2", home.settings, to=to).assert_failed("image", case.error, *case.words, skipped=["TLS"])


def test_an_archive_that_is_not_there(tmp_path: Path, home: Home, to: str) -> None:
    missing = str(tmp_path / "missing.tar")
    diagnose(missing, home.settings, to=to).assert_failed("image", ImageNotFound, missing, skipped=["TLS"])
    found = diagnose(missing, home.settings)
    found.assert_failed("image", ImageNotFound, missing, skipped=["reference", *OF_THE_REGISTRY])


def test_an_archive_that_is_cut_off(archive: Path, home: Home, to: str) -> None:
    truncated(archive, 60_000)
    diagnose(str(archive), home.settings, to=to).assert_failed(
        "image", ArchiveTruncated, str(archive), skipped=["TLS"]
    )


# --- job store and disk -----------------------------------------------------------------------------------


def test_a_home_that_is_no_folder(tmp_path: Path, archive: Path, to: str) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    found = diagnose(str(archive), settings_in(blocked / "home"), to=to)
    assert found.of(Status.FAILED) == ["job store", "disk"]
    assert found.of(Status.SKIPPED) == ["TLS"]
    for name in ("job store", "disk"):
        assert found[name].code == HomeUnusable.code
        assert found[name].exit_code == 8
        assert str(blocked) in found[name].message
        assert "export PUSHER_HOME=FOLDER" in found[name].hint


def test_a_home_that_may_not_be_written(tmp_path: Path, archive: Path, to: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with like_any_user():
        found = diagnose(str(archive), settings_in(folder), to=to)
    assert found.of(Status.FAILED) == ["job store", "disk"]
    assert "Permission denied" in found["disk"].message


def test_a_store_that_may_only_be_read(archive: Path, home: Home, to: str) -> None:
    home.store.close()
    home.settings.home.chmod(0o500)
    (home.settings.home / "jobs.db").chmod(0o400)
    with like_any_user():
        found = diagnose(str(archive), home.settings, to=to)
    home.settings.home.chmod(0o700)
    assert found.of(Status.FAILED) == ["job store", "disk"]
    assert found["job store"].code == StoreReadOnly.code


def test_a_store_of_a_newer_pusher(archive: Path, home: Home, to: str) -> None:
    with sqlite3.connect(home.settings.home / "jobs.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
        database.execute("UPDATE schema_support SET oldest = 'the-future'")
    database.close()
    diagnose(str(archive), home.settings, to=to).assert_failed(
        "job store", StoreTooNew, "newer pusher", "from-the-future", skipped=["TLS"]
    )


def test_a_store_that_is_none(archive: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is no database at all" * 100)
    diagnose(str(archive), settings_in(tmp_path), to=to).assert_failed(
        "job store", StoreCorrupt, "is not an SQLite database", "move it away", skipped=["TLS"]
    )


def test_a_database_url_that_is_none(archive: Path, tmp_path: Path, to: str) -> None:
    settings = settings_in(tmp_path, database_url="nonsense://s3cr3t")
    check = diagnose(str(archive), settings, to=to).assert_failed(
        "job store", InvalidOption, "PUSHER_DATABASE_URL", skipped=["TLS"]
    )
    assert "s3cr3t" not in f"{check}"


def test_no_room_for_the_layers(archive: Path, home: Home, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = archive.stat().st_size - 1
    monkeypatch.setattr("pusher.doctor.local.room_at", lambda folder: small)
    check = diagnose(str(archive), home.settings, to=to).assert_failed(
        "disk", DiskFull, "has room for", "PUSHER_HOME", skipped=["TLS"]
    )
    assert check.exit_code == 5
    # what is uploaded from where it lies needs no room
    ready = write_archive(archive.parent / "ready.tar", make_image(50_000), shape="containerd")
    diagnose(str(ready), home.settings, to=to).assert_healthy(skipped=["TLS"])


def test_what_is_spooled_needs_no_room(
    archive: Path, home: Home, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.push(archive, to)
    monkeypatch.setattr("pusher.doctor.local.room_at", lambda folder: 25_000)
    diagnose(str(archive), home.settings, to=to).assert_healthy(skipped=["TLS"])
    for digest, _, _ in home.spool.blobs():
        home.spool.remove(digest)
    assert diagnose(str(archive), home.settings, to=to).of(Status.FAILED) == ["disk"]


# --- one check among others -------------------------------------------------------------------------------


def test_broken_settings_are_a_check_of_their_own(archive: Path, home: Home, to: str) -> None:
    errors = EarlyErrors(config=ConfigInvalid("pusher.toml is not TOML", hint="mend it"))
    found = diagnose(str(archive), home.settings, to=to, errors=errors)
    found.assert_failed("config", ConfigInvalid, "pusher.toml", skipped=["TLS"])


def test_a_bug_in_one_check_hides_no_other(
    archive: Path, home: Home, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(folder: Path) -> int:
        raise ZeroDivisionError("s3cr3t")

    monkeypatch.setattr("pusher.doctor.local.room_at", stumble)
    check = diagnose(str(archive), home.settings, to=to).assert_failed(
        "disk", PusherError, "bug", "ZeroDivisionError", skipped=["TLS"]
    )
    assert "s3cr3t" not in f"{check}"


def test_every_check_is_announced_before_it_is_made(archive: Path, home: Home, to: str) -> None:
    told: list[str] = []
    target = parse_target(str(archive), to=to)
    for check in run_checks(
        target, home.settings, errors=EarlyErrors(), on_check=lambda check: told.append(check.name)
    ):
        assert told[-1] == check.name
    assert told == list(EVERY)


def test_an_image_from_a_pipe_is_left_to_push(home: Home, registry: FakeRegistry) -> None:
    found = diagnose("-", home.settings, to=f"{registry.address}/app:1")
    assert found["image"].status is Status.SKIPPED
    assert "a pipe can be read only once" in found["image"].message
    assert found.of(Status.FAILED) == []

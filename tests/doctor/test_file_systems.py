"""File systems on a network: told from local ones by the list of mounts, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.config import Settings
from pusher.doctor import file_systems
from pusher.doctor.file_systems import describe_home, describe_spool, find_file_system

MOUNTS = r"""
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
47 27 0:39 / /mnt/ssh rw,nosuid,nodev,relatime - fuse.sshfs root@files:/export rw,user_id=0
48 27 0:40 / /mnt/team rw,relatime shared:7 master:1 - nfs4 files:/team rw,vers=4.2,hard,local_lock=none
49 27 0:41 / /mnt/old\040team rw,relatime - nfs files:/old rw,vers=3,nolock
50 27 0:42 / /mnt/team/local rw,relatime - xfs /dev/vdb rw
51 27 0:43 / /mnt/over rw - nfs4 files:/over rw
52 51 0:44 / /mnt/over rw - tmpfs tmpfs rw
not a mount at all
"""


@pytest.fixture(autouse=True)
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    monkeypatch.setattr(file_systems, "_MOUNTS", path)
    return path


@pytest.mark.parametrize(
    ("folder", "kind", "is_on_network", "keeps_locks_local"),
    [
        ("/home/user", "ext4", False, False),
        ("/mnt/ssh/pusher/spool", "fuse.sshfs", True, True),
        ("/mnt/team/spool", "nfs4", True, False),
        ("/mnt/teamwork", "ext4", False, False),
        ("/mnt/old team/spool", "nfs", True, True),
        ("/mnt/team/local/x", "xfs", False, False),
        ("/mnt/over", "tmpfs", False, False),
    ],
)
def test_the_mount_of_a_folder(
    mounts: Path, folder: str, kind: str, is_on_network: bool, keeps_locks_local: bool
) -> None:
    found = find_file_system(Path(folder))
    assert found is not None
    assert (found.kind, found.is_on_network, found.keeps_locks_local) == (
        kind,
        is_on_network,
        keeps_locks_local,
    )


def test_a_system_that_does_not_tell(mounts: Path) -> None:
    mounts.unlink()
    assert find_file_system(Path("/mnt/team")) is None
    assert describe_home(Settings(home=Path("/mnt/team"), database_url="sqlite://")) == ""


def test_what_is_said_of_a_home_and_a_spool_on_a_network() -> None:
    local = Settings(home=Path("/home/user"), database_url="sqlite://", spool_folder=Path("/mnt/team/spool"))
    assert describe_home(local) == describe_spool(local) == ""
    remote = Settings(home=Path("/mnt/team/home"), database_url="sqlite://", spool_folder=Path("/mnt/ssh"))
    assert "PUSHER_HOME is on nfs4: use it from one host only" in describe_home(remote)
    assert "the job store and the locks" in describe_home(remote)
    assert "PUSHER_SPOOL is on fuse.sshfs" in describe_spool(remote)
    assert describe_spool(Settings(home=Path("/mnt/ssh"), database_url="sqlite://")) == ""

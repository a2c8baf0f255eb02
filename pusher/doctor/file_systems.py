"""Say which file systems on a network PUSHER_HOME and PUSHER_SPOOL are on, and what these do not give."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.text import printable

_MOUNTS: Final = Path("/proc/self/mountinfo")
_ON_NETWORK: Final = re.compile(
    r"(nfs4?|cifs|smb3?|smbfs|ceph|lustre|gpfs|beegfs|afs|ocfs2|gfs2"
    r"|fuse\.(?!(fuse-overlayfs|ntfs|exfat|mergerfs|bindfs|encfs|gocryptfs|squashfuse)).+)"
)
_LOCKS_STAY_LOCAL: Final = re.compile(r"cifs|smb3?|smbfs|fuse\.(sshfs|rclone|s3fs|gcsfuse|goofys|davfs).*")
_OWN_LOCKS: Final = frozenset({"nolock", "local_lock=all", "local_lock=flock"})
"""Options of nfs(5), and of mount.cifs(8), with which locks are not the server's."""
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class FileSystem:
    """What is mounted where a folder is: its type, such as ``nfs4``, and the options of the mount."""

    kind: str
    options: frozenset[str]

    @property
    def is_on_network(self) -> bool:
        """Return whether other hosts may have the same files, as with most file systems in user space."""
        return _ON_NETWORK.fullmatch(self.kind) is not None

    @property
    def keeps_locks_local(self) -> bool:
        """Return whether other hosts do not see the locks of this one."""
        return _LOCKS_STAY_LOCAL.fullmatch(self.kind) is not None or not _OWN_LOCKS.isdisjoint(self.options)


def find_file_system(folder: Path) -> FileSystem | None:
    """Return the file system of a folder, which need not exist yet; None where the system does not tell."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        place = os.path.realpath(folder)
    except OSError:
        return None
    found: tuple[int, FileSystem] | None = None
    for line in lines:  # proc_pid_mountinfo(5); of two mounts at one place the last one counts
        before, _, after = line.partition(" - ")
        fields, described = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(described) < 3:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        is_above = place == point or place.startswith(point.rstrip("/") + "/")
        if is_above and (found is None or len(point) >= found[0]):
            options = frozenset([*fields[5].split(","), *described[2].split(",")])
            found = len(point), FileSystem(described[0], options)
    return found[1] if found else None


def describe_home(settings: Settings) -> str:
    """Return the fact that PUSHER_HOME is on a network, or ""."""
    found = find_file_system(settings.home)
    if found is None or not found.is_on_network:
        return ""
    what = "the job store and the locks" if settings.database_url.startswith("sqlite") else "the locks"
    return (
        f"PUSHER_HOME is on {printable(found.kind)}: use it from one host only, or set it to a folder on a "
        f"local disk, as {what} in it are not safe between hosts"
    )


def describe_spool(settings: Settings) -> str:
    """Return the fact that the locks in PUSHER_SPOOL are not seen by other machines, or ""."""
    found = find_file_system(settings.spool_folder) if settings.spool_folder is not None else None
    if found is None or not found.keeps_locks_local:
        return ""
    return (
        f"PUSHER_SPOOL is on {printable(found.kind)}, where machines do not see each other's locks: this is "
        "not supported, and two of them may compress or download the same layer"
    )

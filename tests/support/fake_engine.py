"""A `docker` or `podman` that is a small shell script: it answers what a test says and notes its calls."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from tests.support.images import Image, entries, sha256


class FakeEngine:
    """Put ``folder`` alone in PATH. ``on`` sets what ``inspect``, ``ls``, ``save`` and others do.

    The scripts may use ``/bin/cat`` and ``/bin/sleep``: nothing else is in PATH.
    """

    def __init__(self, folder: Path, command: str = "docker") -> None:
        self.folder = folder
        self.command = command
        self._scripts = {
            "inspect": "exit 1",
            "ls": "exit 0",
            "save": "exit 1",
            "info": "exit 1",
            "context": "exit 1",
            "system": "exit 1",
        }
        folder.mkdir(exist_ok=True)
        self._write()

    def on(self, command: str, script: str) -> None:
        self._scripts[command] = script
        self._write()

    def fails(self, command: str, stderr: str, code: int = 1) -> None:
        self.on(command, f"echo {shlex.quote(stderr)} >&2; exit {code}")

    def has(self, image: Image, archive: Path, *, containerd: bool = False, descriptor: bool = True) -> None:
        """`image inspect` describes ``image`` and `save` writes ``archive``.

        With the containerd image store the ID is the digest of the index, as in ``index.json``; before
        Docker 28 there is no ``descriptor`` to tell, only what `info` says of the storage.
        """
        described: dict[str, object] = {
            "Id": image.config_digest,
            "Os": "linux",
            "Architecture": image.architecture,
            "RootFS": {"Layers": list(image.diff_ids)},
        }
        if containerd:
            root = root_of(image)
            described |= {"Id": root, "GraphDriver": {"Data": None, "Name": "overlayfs"}}
            if descriptor:
                described["Descriptor"] = {"digest": root}
            self.on("info", """echo '[["driver-type","io.containerd.snapshotter.v1"]]'""")
        else:
            described["GraphDriver"] = {"Data": {"UpperDir": "/nowhere/diff"}, "Name": "overlay2"}
        answer = self.folder / f"{self.command}-inspect.json"
        answer.write_text(json.dumps([described]))
        self.on("inspect", f"/bin/cat {answer}")
        self.on("save", f"/bin/cat {archive}")

    def calls(self) -> list[str]:
        """The arguments of every call, in order."""
        log = self.folder / f"{self.command}.log"
        return log.read_text().splitlines() if log.exists() else []

    def _write(self) -> None:
        path = self.folder / self.command
        new = path.with_suffix(".new")  # a shell that runs the script now reads the old one to its end
        new.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {self.folder}/{self.command}.log\n'
            'case "$1 $2" in\n'
            f'"image inspect") {self._scripts["inspect"]};;\n'
            f'"image ls") {self._scripts["ls"]};;\n'
            f'"save "*) {self._scripts["save"]};;\n'
            f'"info "*) {self._scripts["info"]};;\n'
            f'"context inspect") {self._scripts["context"]};;\n'
            f'"system dial-stdio") {self._scripts["system"]};;\n'
            '*) echo "unexpected: $*" >&2; exit 64;;\n'
            "esac\n"
        )
        new.chmod(0o755)
        new.replace(path)


def root_of(image: Image) -> str:
    """Digest of the index of ``image`` in an archive of the shape ``containerd``."""
    index = next(entry.data for entry in entries("containerd", image) if entry.name == "index.json")
    assert index is not None
    digest = json.loads(index)["manifests"][0]["digest"]
    assert digest != sha256(image.manifest)
    return str(digest)

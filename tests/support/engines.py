"""Real image engines with folders of their own: a Docker daemon and Podman."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.processes import Daemon, unmount_below

_NAMESPACE: Final = f"pusher-tests-{os.getpid()}"
"""Of its own: where containerd runs as a service, daemons share it."""
_BLOCK: Final = 1024 * 1024


class Engine(ABC):
    """What docker and podman have in common on the command line."""

    command: str

    driver: str
    """Its storage driver's name; "default" where it chose one itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    @abstractmethod
    def env(self) -> dict[str, str]:
        """Environment variables with which the engine's command finds this engine and nothing else."""

    def run(self, *arguments: str) -> str:
        """Run the engine's command; its stdout. AssertionError with stderr if it fails."""
        done = subprocess.run(
            [self.command, *arguments],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{self.command} {' '.join(arguments)}:\n{done.stderr}"
        return done.stdout

    def build(self, tag: str, files: Mapping[str, bytes], dockerfile: str | None = None) -> str:
        """Build an image from scratch, a layer a file unless ``dockerfile`` says otherwise; its image ID."""
        if dockerfile is None:
            copies = "".join(f"COPY {name} /{name}\n" for name in files)
            dockerfile = f'FROM scratch\n{copies}CMD ["/none"]\n'
        with tempfile.TemporaryDirectory(dir=self.folder) as context:
            for name, data in files.items():
                path = Path(context, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            Path(context, "Dockerfile").write_text(dockerfile)
            return self.build_folder(tag, Path(context))

    def build_random(self, tag: str, sizes: Sequence[int], *, seed: int = 0) -> str:
        """An image with a layer of so many incompressible bytes each, written in blocks; its image ID."""
        source = random.Random(seed)
        with tempfile.TemporaryDirectory(dir=self.folder) as context:
            dockerfile = "FROM scratch\n"
            for number, size in enumerate(sizes):
                dockerfile += f"COPY layer-{number} /layer-{number}\n"
                with Path(context, f"layer-{number}").open("wb") as file:
                    for at in range(0, size, _BLOCK):
                        file.write(source.randbytes(min(_BLOCK, size - at)))
            Path(context, "Dockerfile").write_text(dockerfile + 'CMD ["/none"]\n')
            return self.build_folder(tag, Path(context))

    def build_folder(self, tag: str, context: Path) -> str:
        """Build a folder that holds a Dockerfile; the image ID."""
        self.run("build", "--quiet", "--network", "none", "--tag", tag, str(context))
        return self.image_id(tag)

    def image_id(self, image: str) -> str:
        """The digest of the image's config, ``sha256:`` first."""
        found = self.run("image", "inspect", "--format", "{{.Id}}", image).strip()
        return "sha256:" + found.removeprefix("sha256:")

    def load(self, path: Path) -> None:
        """Read a docker-archive."""
        self.run("load", "--quiet", "--input", str(path))

    def diff_ids(self, image: str) -> list[str]:
        """Digests of the uncompressed layers, lowest first."""
        template = "{{range .RootFS.Layers}}{{.}} {{end}}"
        return self.run("image", "inspect", "--format", template, image).split()

    def save(self, path: Path, *images: str) -> Path:
        """Write images to a docker-archive."""
        self.run("save", "--output", str(path), *images)
        return path

    def remove(self, image: str) -> None:
        self.run("rmi", "--force", image)


class Docker(Engine):
    """A Docker daemon of our own on a unix socket; a context manager. Needs root.

    It never touches the machine's own daemon: data, state, socket and containerd namespaces are its own, and
    it makes no bridge and no firewall rules. ``driver``: its storage driver, by default what it chooses.
    """

    command = "docker"

    def __init__(self, driver: str | None = None) -> None:
        self.driver = driver or "default"
        super().__init__(Path(tempfile.mkdtemp(prefix="pusher-docker-")))  # a socket's path must be short
        self.host = f"unix://{self.folder}/docker.sock"
        self._daemon = Daemon("dockerd", self.folder / "dockerd.log")

    @property
    def env(self) -> dict[str, str]:
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        return {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(config), "DOCKER_BUILDKIT": "0"}

    def start(self) -> None:
        options = {
            "data-root": self.folder / "data",
            "exec-root": self.folder / "exec",
            "pidfile": self.folder / "docker.pid",
            "host": self.host,
            "bridge": "none",
            "iptables": "false",
            "ip6tables": "false",
            "ip-forward": "false",
            "insecure-registry": "127.0.0.0/8",
            "containerd-namespace": _NAMESPACE,
            "containerd-plugins-namespace": f"{_NAMESPACE}-plugins",
            **({"storage-driver": self.driver} if self.driver != "default" else {}),
        }
        self._daemon.start(
            ["dockerd", *(f"--{name}={value}" for name, value in options.items())], self._answers
        )

    def stop(self, *, kill: bool = False) -> None:
        """End the daemon; its images stay for the next start()."""
        self._daemon.stop(kill=kill)
        unmount_below(self.folder)
        # a killed dockerd takes its containerd with it, and leaves a pid file that its successor would
        # believe
        shutil.rmtree(self.folder / "exec", ignore_errors=True)

    def _answers(self) -> bool:
        asked = subprocess.run(
            ["docker", "version"], env={**os.environ, **self.env}, capture_output=True, check=False
        )
        return asked.returncode == 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Podman(Engine):
    """Podman with storage and state of its own under a folder; no daemon."""

    command = "podman"

    def __init__(self, folder: Path, driver: str = "vfs") -> None:
        """vfs works on every file system and leaves no mounts."""
        super().__init__(folder)
        self.driver = driver
        self._storage = folder / "storage.conf"
        self._storage.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        )
        self._auth = folder / "auth.json"
        self._auth.write_text("{}")
        self._containers = folder / "containers.conf"
        self._containers.write_text(
            f'[engine]\ntmp_dir = "{folder}/tmp"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        )

    @property
    def env(self) -> dict[str, str]:
        return {
            "CONTAINERS_STORAGE_CONF": str(self._storage),
            "CONTAINERS_CONF": str(self._containers),
            "REGISTRY_AUTH_FILE": str(self._auth),
        }

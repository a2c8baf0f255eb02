"""Run the steps of the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import requests

from pusher.dataclass import dataclass
from pusher.errors import DemoFailed
from pusher.oci.digest import digest_of_hash, hash_for, of_bytes
from pusher.oci.manifest import parse_manifest
from pusher.registry.upload.profiles.profile import MIB
from pusher.registry.upload.profiles.table import SERVERLESS
from pusher.serve.access import Access
from pusher.serve.app import make_app
from pusher.serve.demo.image import write_image
from pusher.serve.demo.link import BadLink
from pusher.serve.demo.serverless import ServerlessApi
from pusher.serve.local import LocalRegistry
from pusher.serve.metrics import Metrics
from pusher.serve.page.site import RegistrySite
from pusher.serve.server import Address, open_sockets, server_in_background
from pusher.units import human_bytes

_NAME: Final = "demo/app"
_TAG: Final = "1"
_LOOK: Final = 0.02
_STEP_TIMEOUT: Final = 120.0
"""Seconds for one step, on however slow a machine."""


@dataclass(frozen=True)
class Scale:
    """Sizes in bytes, rates in bytes a second, times in seconds."""

    layers: tuple[int, ...] = (24 * MIB, 20 * MIB, 16 * MIB)
    rate: int = 8 * MIB
    break_every: int = 18 * MIB
    outage: float = 2.0
    min_chunk: int = SERVERLESS.min_chunk
    max_chunk: int = SERVERLESS.max_chunk or 0
    parallel: int = 2
    """Blobs at a time: a break costs the chunk in flight of one."""


def tell(say: Callable[[str], None], scale: Scale) -> Iterator[int]:
    """Run the demo; yield the registry's port once all is done, and stop the registry on resumption.

    Raises DemoFailed, ListenFailed, OSError.
    """
    began = time.monotonic()

    def step(text: str) -> None:
        say(f"{time.monotonic() - began:5.1f} s  {text}")

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pusher-demo-")))
        archive = folder / "app.tar"
        write_image(archive, "app:1", list(scale.layers))
        step(f"made an image of {human_bytes(sum(scale.layers))} with {len(scale.layers)} layers: app.tar")
        registry = stack.enter_context(closing(LocalRegistry(folder / "registry")))
        sockets = open_sockets(Address("127.0.0.1", 0))
        port = sockets[0].getsockname()[1]
        api = ServerlessApi(registry, min_chunk=scale.min_chunk, max_chunk=scale.max_chunk)
        app = make_app(api, Access(is_local=True), Metrics(), site=RegistrySite(registry.catalog))
        stack.enter_context(server_in_background(app, sockets))
        link = stack.enter_context(BadLink(port, rate=scale.rate, break_every=scale.break_every))
        step(
            f"started a registry with the limits of Cloudflare's serverless-registry, behind a link of "
            f"{human_bytes(scale.rate)}/s that breaks every {human_bytes(scale.break_every)}"
        )
        _push(_Player(folder, registry, link, scale.parallel), step, scale, archive)
        blobs = _pull_back(f"http://127.0.0.1:{port}/v2/{_NAME}")
        step(f"pulled everything back: {blobs} blobs, all digests match")
        sent, size = link.bytes_sent, sum(scale.layers)
        say("")
        say(
            f"The image has {human_bytes(size)}; {human_bytes(sent)} were sent, {sent / size:.2f} times as "
            f"much, with {link.breaks} broken connections, a kill -9 and an outage. What was sent again are "
            "the chunks that were cut off: this kind of registry keeps only whole ones."
        )
        yield port


def _push(player: _Player, step: Callable[[str], None], scale: Scale, archive: Path) -> None:
    link, size = player.link, sum(scale.layers)
    place = f"127.0.0.1:{link.port}/{_NAME}:{_TAG}"
    step(f"pusher push app.tar --to {place}")
    with player.process("push", str(archive), "--to", place) as pushing:
        player.wait(pushing, lambda: player.received() > size * 0.3)
        pushing.kill()
    step(f"kill -9 ended pusher in the middle of a layer; the registry has {human_bytes(player.received())}")
    breaks = link.breaks
    with player.process("run") as running:
        step("pusher run continues where it was")
        player.wait(running, lambda: player.received() > size * 0.65)
        link.go_away()
        step(
            f"the link broke {_times(link.breaks - breaks)} meanwhile; now the network is down: "
            f"the registry has {human_bytes(player.received())}"
        )
        time.sleep(scale.outage)
        link.come_back()
        step("the network is back")
        if running.wait(_STEP_TIMEOUT) != 0:
            raise DemoFailed(f"pusher run ended with code {running.returncode}")
    step(f"pushed: {place}")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


class _Player:
    """Runs and watches pushes."""

    def __init__(self, folder: Path, registry: LocalRegistry, link: BadLink, parallel: int) -> None:
        self._folder = folder
        self._registry = registry
        self._parallel = parallel
        self.link = link

    def received(self) -> int:
        """Return the bytes stored."""
        folder = self._registry.folder
        files = [*(folder / "uploads").iterdir(), *(folder / "blobs" / "sha256").iterdir()]
        total = 0
        for file in files:
            try:
                total += file.stat().st_size
            except FileNotFoundError:  # it has become a blob
                continue
        return total

    @contextmanager
    def process(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run pusher with its own job store, and none of the user's settings."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("PUSHER_")}
        env |= {
            "PUSHER_HOME": str(self._folder / "home"),
            "PUSHER_CONFIG": os.devnull,
            "PUSHER_PARALLEL": str(self._parallel),
            "NO_PROXY": "127.0.0.1",
        }
        with (self._folder / "pusher.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pusher", *arguments, "--progress", "none"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def wait(self, process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
        """Wait. Raises DemoFailed if the process exits first, or at a timeout."""
        deadline = time.monotonic() + _STEP_TIMEOUT
        while not condition():
            if process.poll() is not None:
                log = (self._folder / "pusher.log").read_text(errors="replace").strip()
                raise DemoFailed(f"pusher ended too early, with code {process.returncode}: {log[-500:]}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"nothing came of a step for {_STEP_TIMEOUT:.0f} s")
            time.sleep(_LOOK)


def _pull_back(repository: str) -> int:
    """Pull the image past the link; return the number of its blobs. Raises DemoFailed."""
    with requests.Session() as http:
        http.trust_env = False
        answer = http.get(f"{repository}/manifests/{_TAG}", timeout=_STEP_TIMEOUT)
        digest = answer.headers.get("Docker-Content-Digest")
        if not answer.ok or digest != of_bytes(answer.content):
            raise DemoFailed(f"the registry does not give the manifest back: status {answer.status_code}")
        manifest = parse_manifest(answer.content)
        for blob in manifest.blobs:
            found = hash_for(blob.digest)
            with http.get(f"{repository}/blobs/{blob.digest}", timeout=_STEP_TIMEOUT, stream=True) as pulled:
                for block in pulled.iter_content(1 << 20):
                    found.update(block)
            if digest_of_hash(found) != blob.digest:
                raise DemoFailed(f"the registry has other bytes than {blob.digest}")
    return len(manifest.blobs)

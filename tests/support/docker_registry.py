"""Debian's docker-registry: the real distribution registry 2.8."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.processes import Daemon, free_port, listens

CREDENTIALS: Final = ("pusher", "correct horse")
_HTPASSWD: Final = "pusher:$2b$04$O6ewUszi2bn15VOVGbSSyuRNB/FXH9Wg7zRqpR6n7Obv2aQ2IXk1i\n"


class DockerRegistry:
    """A context manager around ``docker-registry serve``; keeps its port and its data over restarts.

    ``secret``: the fixed ``http.secret`` with which upload sessions outlive a restart; None as distribution
    has it by default. ``authenticated``: Basic authentication with CREDENTIALS. ``auth``: that section of its
    configuration, for any other. ``foreign``: it takes layers that lie at addresses of their own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        relative_urls: bool = False,
        secret: str | None = None,
        authenticated: bool = False,
        auth: dict[str, Any] | None = None,
        tls: dict[str, Any] | None = None,
        foreign: bool = False,
    ) -> None:
        self._port = free_port()
        self._config = folder / "config.json"
        self.data = folder / "data"
        """Its storage root; blobs lie under ``docker/registry/v2/blobs``."""
        self._daemon = Daemon("docker-registry", folder / "registry.log")
        if authenticated:
            (folder / "htpasswd").write_text(_HTPASSWD)
            auth = {"htpasswd": {"realm": "basic-realm", "path": str(folder / "htpasswd")}}
        settings = self._settings(relative_urls, secret, auth, tls)
        if foreign:
            settings["validation"] = {"manifests": {"urls": {"allow": ["^https://"]}}}
        self._config.write_text(json.dumps(settings))

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, as it stands in an image reference."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        # JSON is YAML, and the registry reads YAML
        self._daemon.start(["docker-registry", "serve", str(self._config)], lambda: listens(self._port))

    def stop(self, *, kill: bool = False) -> None:
        """End it; its connections break, and new ones are refused until start()."""
        self._daemon.stop(kill=kill)

    def restart(self, *, kill: bool = False) -> None:
        self.stop(kill=kill)
        self.start()

    def log(self) -> str:
        """The end of its log."""
        return self._daemon.tail()

    def _settings(
        self,
        relative_urls: bool,
        secret: str | None,
        auth: dict[str, Any] | None,
        tls: dict[str, Any] | None,
    ) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": self.address, "relativeurls": relative_urls}
        if secret is not None:
            http["secret"] = secret
        if tls is not None:
            http["tls"] = tls
        storage = {"filesystem": {"rootdirectory": str(self.data)}, "delete": {"enabled": True}}
        settings = {"version": 0.1, "log": {"level": "warn"}, "storage": storage, "http": http}
        return settings if auth is None else {**settings, "auth": auth}

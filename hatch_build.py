"""Makes the man pages while the wheel is built: ``share/man`` of the environment that it is installed in."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface[Any]):
    """Adds a page for each command and topic; an editable install has none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from pusher.cli.man import man_pages

        self._folder = Path(tempfile.mkdtemp(prefix="pusher-man-"))
        for name, text in man_pages().items():
            path = self._folder / name
            path.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(path)] = f"share/man/man{path.suffix[1:]}/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if version != "editable":
            shutil.rmtree(self._folder)

"""Find out which layers lie in the folders of a `docker save` stream before Docker 25.

Each layer has a folder whose name is the layer's v1 ID: the SHA-256 of its description with the layer's chain
ID (moby's ``image/v1.CreateID`` and ``image/tarexport``, since Docker 1.10). The description, ``json``, comes
before ``layer.tar``, and the image's diff IDs give the chain IDs. ``manifest.json``, which lists the folders,
comes last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pusher.oci.bounded_json import load_json
from pusher.oci.digest import chain_ids, hex_of, of_bytes

_Members = dict[str, str]
"""The members of a JSON object, each value as it is written."""


class LegacyFolders:
    """The folders of one image's layers; ``diff_ids`` are the image's, lowest first."""

    def __init__(self, diff_ids: Sequence[str]) -> None:
        self._top = len(diff_ids) - 1
        self._unfound = list(enumerate(zip(diff_ids, chain_ids(diff_ids), strict=True)))
        self._diff_ids: dict[str, str] = {}

    def read_description(self, folder: str, raw: bytes) -> None:
        """Learn from the ``json`` in a folder which layer is there; nothing if it is not one of the image."""
        try:
            members = _members(raw)
        except ValueError:
            return
        for candidate in self._unfound:
            position, (diff_id, chain_id) = candidate
            if _v1_id(members, chain_id, is_top=position == self._top) == folder:
                self._diff_ids[folder] = diff_id
                self._unfound.remove(candidate)
                return

    def diff_id_in(self, folder: str) -> str | None:
        """Return the diff ID of the layer in a folder; None if that is not known."""
        return self._diff_ids.get(folder)


def _v1_id(description: _Members, chain_id: str, *, is_top: bool) -> str:
    """Return the v1 ID of a layer, as 64 hexadecimal digits.

    It was made before ``id``, and before ``os`` unless the layer is the top one, whose description has all of
    the image's; it has the digest of ``parent``, not its hexadecimal digits alone.
    """
    members = {key: value for key, value in description.items() if key != "id" and (is_top or key != "os")}
    members["layer_id"] = f'"{chain_id}"'
    if "parent" in members:
        members["parent"] = f'"sha256:{members["parent"][1:]}'
    text = ",".join(f'"{key}":{members[key]}' for key in sorted(members))
    return hex_of(of_bytes(f"{{{text}}}".encode()))


def _members(raw: bytes) -> _Members:
    """Return the members of an object that Go wrote, without spaces between its parts. Raises ValueError."""
    if not isinstance(load_json(raw), dict):  # also checks its depth
        raise ValueError("it is not an object")
    text, decoder = raw.decode(), json.JSONDecoder()
    members, start = _Members(), 1
    while start < len(text) - 1:
        key, colon = decoder.raw_decode(text, start)
        _, end = decoder.raw_decode(text, colon + 1)
        members[key] = text[colon + 1 : end]
        start = end + 1
    return members

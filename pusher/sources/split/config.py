"""Rewrite the config of an image with split layers (image-spec ``config.md``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pusher.oci.bounded_json import load_json


def rewrite_config(config: bytes, diff_ids: Sequence[Sequence[str]]) -> bytes:
    """Return the config with new diff IDs, given for each of its layers, and otherwise unchanged.

    Every further part of a layer gets an entry in the history, unless the history does not fit the layers.
    """
    document = load_json(config)
    document["rootfs"]["diff_ids"] = [diff_id for parts in diff_ids for diff_id in parts]
    history = document.get("history")
    if isinstance(history, list) and all(isinstance(entry, dict) for entry in history):
        made = [entry for entry in history if not entry.get("empty_layer")]
        if len(made) == len(diff_ids):
            document["history"] = _history(history, [len(parts) for parts in diff_ids])
    return json.dumps(document, separators=(",", ":")).encode()


def _history(history: Sequence[dict[str, Any]], counts: Sequence[int]) -> list[dict[str, Any]]:
    """``counts``: how many layers each non-empty entry now describes."""
    remaining = iter(counts)
    longer: list[dict[str, Any]] = []
    for entry in history:
        longer.append(entry)
        if entry.get("empty_layer"):
            continue
        count = next(remaining)
        when = {"created": entry["created"]} if "created" in entry else {}
        longer += (
            {**when, "created_by": f"pusher --split-layers: part {number} of {count} of this layer"}
            for number in range(2, count + 1)
        )
    return longer

"""The tables of the topics that are made from the code; comments in the Markdown mark where they stand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

from pusher.config.settings import OPTIONS
from pusher.config.variables import OTHER_VARIABLES
from pusher.errors.catalogue import markdown as errors_table
from pusher.help.topics import read_schema
from pusher.registry.upload import states
from pusher.registry.upload.profiles import PROFILES
from pusher.registry.upload.profiles.profile import MIB, Profile
from pusher.store.models import Base

_NOT_A_PRODUCT: Final = {"distribution", "monolithic", "chunked", "default"}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    texts = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {text} |\n" for text in texts).replace("| --- ", "|---").replace("---| |", "---||")


def settings_table() -> str:
    """Return every setting that ``pusher.toml`` or a variable may have."""
    rows = (
        (
            f"`{option.place}`",
            _default(option.default, option.without),
            "yes" if option.per_registry else "",
            option.help,
        )
        for option in OPTIONS
        if option.name != "password"
    )
    return table(("setting", "default", "for one registry", "what it does"), rows)


def _default(value: str | None, without: str) -> str:
    return without if value is None else f"`{value}`"


def variables_table() -> str:
    """Return every variable of pusher's own."""
    rows = [
        (", ".join(f"`{name}`" for name in option.variables), f"setting `{option.place}`")
        for option in OPTIONS
    ]
    rows += [(f"`{name}`", text) for name, text in OTHER_VARIABLES.items()]
    rows.sort(key=lambda row: row[0].replace("`", ""))
    return table(("variable", "used for"), rows)


def profiles_table() -> str:
    """Return what pusher knows of each kind of registry."""
    rows = (
        (
            profile.title[:1].upper() + profile.title[1:],
            f"`{profile.name}`",
            _chunks(profile),
            _after_a_break(profile),
            "source" if profile.proven else "reports",
        )
        for profile in PROFILES.values()
        if profile.name not in _NOT_A_PRODUCT
    )
    return table(
        ("registry", "profile", "blobs are sent", "after a break inside a chunk", "known from"), rows
    )


def _chunks(profile: Profile) -> str:
    if profile.whole:
        return "whole, in one request"
    least, most = _size(profile.min_chunk), _size(profile.max_chunk)
    sizes = f"of {least} to {most}" if least and most else f"up to {most}" if most else ""
    blobs = f"; blobs up to {_size(profile.max_blob)}" if profile.max_blob else ""
    return f"chunks {sizes}".rstrip() + blobs


def _size(size: int | None) -> str:
    if not size:
        return ""
    if size % (1024 * MIB) == 0:
        return f"{size // (1024 * MIB)} GiB"
    return f"{size // MIB} MiB" if size % MIB == 0 else f"{size // 1_000_000} MB"


def _after_a_break(profile: Profile) -> str:
    if profile.whole or profile.breaks_with_chunk:
        return "the layer starts again"
    if profile.equal_chunks:
        return "the chunk is sent again"
    if profile.may_restart:
        return "the layer may start again"
    return "resumes inside the chunk"


def upload_table() -> str:
    """Return the arrows of the state machine of an upload, from its module's docstring."""
    rows = re.findall(r"^    ([A-Z]+) +(\S.*?) {2,}([A-Z]+)$", states.__doc__ or "", re.MULTILINE)
    return table(("state", "what happened", "next state"), rows)


def store_table() -> str:
    """Return the tables of the job store with their columns."""
    tables = sorted(Base.metadata.tables.values(), key=lambda each: each.name)
    rows = ((f"`{each.name}`", ", ".join(f"`{column.name}`" for column in each.columns)) for each in tables)
    return table(("table", "columns"), rows)


def json_table() -> str:
    """Return the objects of the JSON Schema with their fields."""
    rows = []
    for name, schema in json.loads(read_schema())["$defs"].items():
        for kind in schema.get("oneOf", [schema]):
            fields = kind.get("properties", {})
            line = fields.get("type", {}).get("const", name)
            rows.append((f"`{line}`", kind["description"], ", ".join(f"`{field}`" for field in fields)))
    return table(("object", "what it is", "fields"), rows)


GENERATED: Final[dict[tuple[str, str], Callable[[], str]]] = {
    ("architecture", "store"): store_table,
    ("architecture", "upload"): upload_table,
    ("errors", "errors"): errors_table,
    ("scripting", "json"): json_table,
    ("settings", "settings"): settings_table,
    ("environment", "variables"): variables_table,
    ("registries", "profiles"): profiles_table,
}
"""By topic and name of the table."""

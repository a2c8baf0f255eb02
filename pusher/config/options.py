"""Declare settings: flag, variable, key in ``pusher.toml``, help and default beside the type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields, replace
from typing import Any, Final

from pusher.config import values
from pusher.dataclass import dataclass

LINK: Final = "Link"
REGISTRY: Final = "Registry and TLS"
STORAGE: Final = "Storage"
EVERYDAY: Final = ""
"""Groups of options in ``--help``; the last has no heading."""

HOOKS: Final = "hooks"
"""A table of ``pusher.toml``."""

COMPRESSIONS: Final[Mapping[str, str]] = {
    "keep": "gzip, unless the registry has the layer in another form",
    "gzip": "everything can pull it",
    "zstd": "smaller and faster; old tools cannot pull it",
    "none": "layers as they are",
    "auto": "whichever arrives first over this link",
}
"""What ``compression`` may be, and what it means."""


@dataclass(frozen=True)
class Option:
    """One setting. Flag, variable and, in most cases, the key in ``pusher.toml`` derive from its name."""

    name: str
    """Empty until ``options_of`` takes it from the field."""
    convert: Callable[[str, str], Any]
    """From text and the option's name for errors; raises InvalidOption."""
    metavar: str
    help: str
    default: str | None = None
    """As it would be written; None: nothing is set."""
    group: str = EVERYDAY
    table: str = ""
    """The table of ``pusher.toml`` that it is in."""
    key: str = ""
    """In that table, where it is not the name."""
    per_registry: bool = False
    """May stand in a ``[registries."host"]`` table."""
    has_flag: bool = True
    in_file: bool = True
    is_secret: bool = False
    """Never shown; an empty value is kept as it is."""
    old_variable: str | None = None
    """That of serverless-registry's push script."""
    table_convert: Callable[[str, str], Any] | None = None
    """``convert`` for a registry's table, where it differs."""
    without: str = "none"
    """What is used if nothing is set, for users."""
    example: str | None = None
    """For ``pusher config --example``, if there is no default."""
    variables: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        old = () if self.old_variable is None else (self.old_variable,)
        object.__setattr__(self, "variables", (f"PUSHER_{self.name.upper()}", *old))

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def place(self) -> str:
        """Return the key with its table, as TOML writes it: ``hooks.on_success``."""
        return f"{self.table}.{self.key or self.name}" if self.table else self.name

    @property
    def is_switch(self) -> bool:
        return self.convert is values.parse_switch

    @property
    def is_list(self) -> bool:
        return self.convert is values.parse_hosts


_OPTION: Final = "option"
_PART: Final = "part"


def setting(
    convert: Callable[[str, str], Any],
    metavar: str,
    help_: str,
    default: str | None = None,
    *,
    name: str = "",
    required: bool = False,
    **others: Any,
) -> Any:
    """Declare a field of a settings class with the ``Option`` that gives its value.

    ``name``: if it is not the field's. ``required``: the field has no default of its own. ``others`` are
    fields of ``Option``.
    """
    option = Option(name, convert, metavar, help_, default, **others)
    if required:
        return field(metadata={_OPTION: option})
    value = convert(default, name) if default is not None else frozenset() if option.is_list else None
    return field(default=value, repr=not option.is_secret, metadata={_OPTION: option})


def part(settings: type) -> Any:
    """Declare a field that holds another settings class."""
    return field(default_factory=settings, metadata={_PART: settings})


def options_of(settings: type) -> Iterator[Option]:
    """Yield the options of a settings class and of its parts, in the order of its fields."""
    for each in fields(settings):
        if _PART in each.metadata:
            yield from options_of(each.metadata[_PART])
        elif _OPTION in each.metadata:
            option: Option = each.metadata[_OPTION]
            yield replace(option, name=option.name or each.name)


def field_values(settings: type, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a class's settings by field, from those by the names of the options."""
    values_by_field = {}
    for each in fields(settings):
        if _PART in each.metadata:
            inner = each.metadata[_PART]
            values_by_field[each.name] = inner(**field_values(inner, found))
        elif _OPTION in each.metadata:
            values_by_field[each.name] = found[each.metadata[_OPTION].name or each.name]
    return values_by_field

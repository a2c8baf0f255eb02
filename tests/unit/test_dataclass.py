"""Our dataclasses behave like those of Python."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import pusher.dataclass


class Plain:
    """An ordinary class."""

    a: int
    b: str = field(repr=False)
    c: list[int] = field(default_factory=list)
    d: float | None = field(default=None, compare=False)
    kind: ClassVar = "plain"


class WithPostInit:
    """One field is made of another."""

    name: str
    variables: tuple[str, ...] = field(init=False)
    counts: dict[str, int] = field(default_factory=dict, init=False)
    known: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", (self.name,))


class WithRepr:
    """It has a method of its own."""

    secret: str

    def __repr__(self) -> str:
        return "WithRepr(...)"


Decorate = Callable[..., Any]
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((1, "b"), {}),
    ((1, "b", [3]), {}),
    ((1, "b", [3], 2.5), {}),
    ((1, "b", [3], 2.5, 9), {}),
    ((1,), {"b": "b", "d": 1.0}),
    ((1,), {"d": 1.0, "b": "b"}),
    ((), {"b": "b", "a": 1}),
    ((1, "b"), {"a": 1}),
    ((1, "b"), {"e": 1}),
]


def both(cls: type, **options: bool) -> tuple[type[Any], type[Any]]:
    """The class made a dataclass by Python and by us."""

    def made(decorate: Decorate) -> Any:
        names = vars(cls).keys() - {"__dict__", "__weakref__"}
        body = {name: copy.copy(vars(cls)[name]) for name in sorted(names)}  # decorators change fields
        return decorate(**options)(type(cls.__name__, (), body))

    return made(dataclasses.dataclass), made(pusher.dataclass.dataclass)


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of a call, or its exception's class."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error)


OPTIONS: tuple[dict[str, bool], ...] = (
    {"frozen": True},
    {"frozen": True, "kw_only": True},
    {},
    {"eq": False},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cls", [Plain, WithPostInit, WithRepr])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_objects_are_the_same(
    cls: type, options: dict[str, bool], call: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    args, kwargs = call
    theirs, ours = (outcome(made, *args, **kwargs) for made in both(cls, **options))
    if isinstance(theirs, type):
        assert ours is theirs is TypeError
        return
    assert list(vars(ours)) == list(vars(theirs))
    assert vars(ours) == vars(theirs)
    assert [each.name for each in fields(ours)] == [each.name for each in fields(theirs)]
    assert repr(ours).partition(" object at ")[0] == repr(theirs).partition(" object at ")[0]
    assert type(ours).__match_args__ == type(theirs).__match_args__


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_comparison_and_hash(options: dict[str, bool]) -> None:
    for made in both(Plain, **options):
        one, same, other = (made(a=a, b="b", d=d) for a, d in ((1, 1.0), (1, 2.0), (2, 1.0)))
        assert (one == same) is options.get("eq", True)
        assert one != other
        assert one != (1, "b", [], 1.0)
    theirs, ours = (outcome(hash, made(secret="x")) for made in both(WithRepr, **options))
    assert ours == theirs or not options.get("eq", True)


def test_frozen_objects_do_not_change() -> None:
    for made in both(Plain, frozen=True):
        one = made(1, "b")
        with pytest.raises(FrozenInstanceError):
            one.a = 2
        with pytest.raises(FrozenInstanceError):
            del one.a
        assert replace(one, a=2) == made(2, "b")
        assert copy.copy(one) == one
    for made in both(Plain):
        one = made(1, "b")
        one.a = 2
        assert one == made(2, "b")


@pusher.dataclass.dataclass(frozen=True)
class Base:
    """For subclasses, and for pickle, which looks for a class in its module."""

    a: int
    b: int = 2


@pusher.dataclass.dataclass(frozen=True)
class Derived(Base):
    """It adds a field."""

    c: int = 3


def test_subclasses() -> None:
    assert repr(Derived(1, c=4)) == "Derived(a=1, b=2, c=4)"
    assert Derived(1, 2, 3) != Base(1, 2)
    assert pickle.loads(pickle.dumps(Derived(7))) == Derived(7)
    assert copy.deepcopy(Derived(7)) == Derived(7)


def test_pusher_uses_them() -> None:
    """Python's own are for classes with slots."""
    for path in Path(str(pusher.__file__)).parent.rglob("*.py"):
        text = path.read_text()
        if re.search(r"^from dataclasses import .*\bdataclass\b", text, re.M) and path.stem != "dataclass":
            assert text.count("@dataclass") == text.count("slots=True"), path

"""Provide ``@dataclass`` for classes that most commands import.

The decorator in ``dataclasses`` writes and compiles up to six methods for each class when its module is
imported. For a frozen class this takes 0.4 ms, and pusher has more than a hundred: a third of a short
command's processor time. Here all classes share their methods. Fields, ``replace`` and what type checkers
know are those of ``dataclasses``. Not for classes with ``slots``, or of which an image has thousands:
making an object takes 2 µs instead of 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        cls: type | None = None, /, *, frozen: bool = False, eq: bool = True, kw_only: bool = False
    ) -> type | Callable[[type], type]:
        """Do what ``dataclasses.dataclass`` does with the same arguments."""

        def define(cls: type) -> type:
            cls = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
            methods = {**_METHODS, **(_COMPARISON if eq else {}), **(_FROZEN if frozen else {})}
            for name, method in methods.items():
                if name not in vars(cls):
                    setattr(cls, name, method)
            if eq and not frozen:
                cls.__hash__ = None
            return cls

        return define if cls is None else define(cls)


class _Shape:
    """The fields of a class, as its methods need them."""

    def __init__(self, cls: type) -> None:
        fields = dataclasses.fields(cls)
        self.name = cls.__qualname__
        self.positional = [field.name for field in fields if field.init and not field.kw_only]
        self.arguments = self.positional + [field.name for field in fields if field.init and field.kw_only]
        self.defaults = {field.name: field.default for field in fields if field.default is not MISSING}
        self.factories = {
            field.name: field.default_factory for field in fields if field.default_factory is not MISSING
        }
        self.without_argument = [field.name for field in fields if not field.init]
        self.shown = [field.name for field in fields if field.repr]
        self.compared = [field.name for field in fields if field.compare]
        self.has_post_init = hasattr(cls, "__post_init__")

    def default_of(self, name: str) -> Any:
        if name in self.factories:
            return self.factories[name]()
        if name in self.defaults:
            return self.defaults[name]
        raise TypeError(f"{self.name}() is missing the argument {name!r}")


@cache
def _shape_of(cls: type[Any]) -> _Shape:
    return _Shape(cls)


def _init(self: Any, /, *args: Any, **kwargs: Any) -> None:
    shape = _shape_of(self.__class__)
    if len(args) > len(shape.positional):
        raise TypeError(f"{shape.name}() takes {len(shape.positional)} arguments, not {len(args)}")
    values = dict(zip(shape.positional, args, strict=False))
    for name in shape.arguments[len(args) :]:
        values[name] = kwargs.pop(name) if name in kwargs else shape.default_of(name)
    if kwargs:
        raise TypeError(f"{shape.name}() takes no argument {next(iter(kwargs))!r}, or got it twice")
    for name in shape.without_argument:
        if name in shape.factories:
            values[name] = shape.factories[name]()
    self.__dict__.update(values)
    if shape.has_post_init:
        self.__post_init__()


def _repr(self: Any) -> str:
    shape = _shape_of(self.__class__)
    return f"{shape.name}({', '.join(f'{name}={getattr(self, name)!r}' for name in shape.shown)})"


def _compared_values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in _shape_of(self.__class__).compared)


def _eq(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _compared_values(self) == _compared_values(other)


def _hash(self: Any) -> int:
    return hash(_compared_values(self))


def _refuse_assignment(self: Any, name: str, value: object) -> None:  # noqa: ARG001
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(self: Any, name: str) -> None:  # noqa: ARG001
    raise FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS: Final = {"__init__": _init, "__repr__": _repr}
_COMPARISON: Final = {"__eq__": _eq, "__hash__": _hash}
_FROZEN: Final = {"__setattr__": _refuse_assignment, "__delattr__": _refuse_deletion}

"""Read which images a compose file builds (https://github.com/compose-spec/compose-spec)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.errors import InvalidOption
from pusher.text import quoted

_MOST_BYTES: Final = 4 * 1024 * 1024
_NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_DEEPEST: Final = 20
"""Files that include each other, or services that extend each other."""
_VARIABLE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<operator>:?[-?+])(?P<word>(?:[^{}]|\{[^{}]*\})*))?\})"
)


@dataclass(frozen=True)
class _File:
    """A compose file, and the variables that hold in it."""

    path: Path
    document: Mapping[str, Any]
    variables: Mapping[str, str]

    @property
    def services(self) -> Mapping[str, Any]:
        services = self.document.get("services")
        return services if isinstance(services, dict) else {}


def read_compose(path: Path) -> list[str]:
    """Return the images of the services with ``build``, in the order of the file, each once.

    Services of files that it includes come first, and a service has the ``build`` of the one that it extends.
    A service without ``image`` has the name that docker compose gives it: PROJECT-SERVICE. Variables come
    from the environment, then from ``.env`` beside the file. A folder means the compose file in it.
    Raises InvalidOption.
    """
    if path.is_dir():
        path = next((path / name for name in _NAMES if (path / name).is_file()), path / _NAMES[0])
    files = list(_with_included(path, ()))
    if not any(file.services for file in files):
        raise _invalid(path, "it has no services")
    built = {
        name: (file, service)
        for file in files
        for name in map(str, file.services)
        if (service := _service(file, name, ())).get("build") is not None
    }
    if not built:
        raise InvalidOption(
            f"no service in {path} has a build",
            hint="pusher pushes the images that a compose file builds; name others as IMAGE",
        )
    main = files[-1]
    project = _project(path, main.document, main.variables)
    images = (
        _interpolate(str(service["image"]), file.variables, file.path)
        if service.get("image")
        else f"{project}-{name}"
        for name, (file, service) in built.items()
    )
    return list(dict.fromkeys(images))


def _with_included(path: Path, outer: tuple[Path, ...]) -> Iterator[_File]:
    """Yield the files that a file includes, each with its own, then the file."""
    real = path.resolve()
    if real in outer or len(outer) > _DEEPEST:
        raise _invalid(path, "it includes itself")
    file = _File(path, _load(path), _variables(path.parent))
    included = file.document.get("include") or []
    for entry in included if isinstance(included, list) else [included]:
        paths = entry.get("path") if isinstance(entry, dict) else entry
        for name in paths if isinstance(paths, list) else [paths]:
            found = path.absolute().parent / _interpolate(str(name), file.variables, path)
            yield from _with_included(found, (*outer, real))
    yield file


def _service(file: _File, name: str, extending: tuple[tuple[Path, str], ...]) -> Mapping[str, Any]:
    """Return a service with what it has of the one that it extends: ``build`` and ``image`` are enough."""
    service = file.services.get(name)
    if not isinstance(service, dict):
        if extending:
            raise _invalid(extending[-1][0], f"it extends {quoted(name)}, which is not a service")
        return {}
    base = service.get("extends")
    if base is None:
        return service
    here = (file.path.resolve(), name)
    if here in extending or len(extending) > _DEEPEST:
        raise _invalid(file.path, f"the service {quoted(name)} extends itself")
    other = base.get("file") if isinstance(base, dict) else None
    other_name = str(base.get("service")) if isinstance(base, dict) else str(base)
    source = file
    if other is not None:
        path = here[0].parent / _interpolate(str(other), file.variables, file.path)
        source = _File(path, _load(path), file.variables)
    return {**_service(source, other_name, (*extending, here)), **service}


def _load(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _invalid(path, f"it has more than {_MOST_BYTES // 1024**2} MiB")
        document = yaml.load(path.read_bytes(), _loader())  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise InvalidOption(
            f"the compose file {path} cannot be read: {error.strerror}", hint="check the path after --compose"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise _invalid(path, f"it is not valid YAML{where}") from None
    except (ValueError, RecursionError):  # an impossible date; lists in lists
        raise _invalid(path, "it is not valid YAML") from None
    if not isinstance(document, dict):
        raise _invalid(path, "it has no services")
    return document


def _loader() -> Any:
    """Return a safe loader that knows compose's own tags, ``!reset`` and ``!override``."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def unknown(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> object:
        if suffix == "reset":
            return None
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None

    Loader.add_multi_constructor("!", unknown)
    return Loader


def _variables(folder: Path) -> dict[str, str]:
    """Return the variables for ``${...}``: those of ``.env``, and over them the environment's."""
    from dotenv import dotenv_values

    own: dict[str, str | None] = {}
    if (folder / ".env").is_file():
        own = dotenv_values(folder / ".env")
    return {name: value or "" for name, value in own.items()} | dict(os.environ)


def _project(path: Path, document: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    name = variables.get("COMPOSE_PROJECT_NAME") or _interpolate(
        str(document.get("name") or ""), variables, path
    )
    return re.sub(r"[^a-z0-9_-]", "", (name or path.absolute().parent.name).lower()).lstrip("_-")


def _interpolate(text: str, variables: Mapping[str, str], path: Path) -> str:
    """Replace ``$NAME``, ``${NAME}`` and its forms with ``-``, ``?`` and ``+``, as compose does."""

    def replace(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name, operator, word = match["plain"] or match["name"], match["operator"] or "", match["word"] or ""
        value = variables.get(name)
        is_set = value is not None and (value != "" or not operator.startswith(":"))
        if operator.endswith("?") and not is_set:
            why = _interpolate(word, variables, path)
            raise _invalid(path, f"the variable {name} is not set{f': {why}' if why else ''}")
        if operator.endswith("+"):
            return _interpolate(word, variables, path) if is_set else ""
        if operator.endswith("-") and not is_set:
            return _interpolate(word, variables, path)
        if value is None:
            raise _invalid(path, f"the variable {name} in {quoted(text)} is not set")
        return value

    return _VARIABLE.sub(replace, text)


def _invalid(path: Path, why: str) -> InvalidOption:
    return InvalidOption(
        f"the compose file {path} cannot be used: {why}", hint="check it with: docker compose config"
    )

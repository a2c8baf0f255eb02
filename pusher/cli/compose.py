"""Read which images compose files build (https://docs.docker.com/reference/compose-file/)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pusher.cli.compose_variables import Interpolation, VariableError, read_env_files
from pusher.dataclass import dataclass
from pusher.errors import InvalidOption, ReferenceMalformed
from pusher.reference import Reference
from pusher.text import quoted

STANDARD_INPUT: Final = Path("-")
_MAX_BYTES: Final = 4 * 1024 * 1024
_NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES: Final = tuple(
    f"{name}.override.{suffix}" for name in ("compose", "docker-compose") for suffix in ("yml", "yaml")
)
_DEEPEST: Final = 20
"""Files that include each other, or services that extend each other."""
_MAX_FILES: Final = 1000
_KEYS: Final = ("image", "build", "profiles", "extends")
"""What is read of a service."""


@dataclass(frozen=True)
class _Tagged:
    """A value with ``!override`` or ``!reset``, which replaces that of the files before."""

    value: Any


@dataclass(frozen=True)
class _Project:
    """Services of files that were merged, and the variables that hold in them."""

    path: Path
    """The first of the files."""
    folder: Path
    """What paths in them are relative to."""
    name: str
    services: Mapping[str, Mapping[str, Any]]
    include: Sequence[Any]
    variables: Mapping[str, str]


def read_compose(paths: Sequence[Path], note: Callable[[str], None] = lambda _: None) -> list[str]:
    """Return the images of the services with ``build``, in the order of the files, each once.

    Later files are merged into the first, as with ``docker compose -f``. A folder means the files that docker
    compose finds in it, ``-`` standard input. Services of included files come first; a service has the
    ``build`` of the one that it extends, and one of a profile counts if ``COMPOSE_PROFILES`` names that. A
    service without ``image`` has the name that docker compose gives it: PROJECT-SERVICE. Variables come from
    the environment, then from ``.env`` beside the first file. ``note`` gets what the user should know.
    Raises InvalidOption.
    """
    if len(paths) == 1 and paths[0].is_dir():
        paths = _files_of(paths[0])
    reader = _Reader()
    folder = Path.cwd() if paths[0] == STANDARD_INPUT else paths[0].absolute().parent
    variables = read_env_files(_env_files(folder), os.environ)
    main = reader.read(paths, folder, variables)
    projects = [*reader.included(main, ()), main]
    if not any(project.services for project in projects):
        raise _invalid_error(main.path, "it has no services")
    images: dict[str, list[str]] = {}
    left_out = []
    for project in projects:
        for name in project.services:
            service = reader.service(project, name)
            if service.get("build") is None:
                continue
            if _is_enabled(service, main.variables):
                images[name] = _images(main, project, name, service, note)
            else:
                left_out.append(name)
    if not images:
        raise _nothing_built_error(main.path, left_out)
    return list(dict.fromkeys(image for found in images.values() for image in found))


def _files_of(folder: Path) -> list[Path]:
    """Return the files that docker compose reads in a folder."""
    variables = read_env_files(_env_files(folder.absolute()), os.environ)
    if named := variables.get("COMPOSE_FILE"):
        separator = variables.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        return [folder / name for name in named.split(separator)]
    found = [folder / name for name in _NAMES if (folder / name).is_file()]
    overrides = [folder / name for name in _OVERRIDES if (folder / name).is_file()]
    return [*found[:1], *overrides[:1]] if found else [folder / _NAMES[0]]


def _env_files(folder: Path) -> list[Path]:
    """Return the files of variables for a project in this folder."""
    if named := os.environ.get("COMPOSE_ENV_FILES"):
        return [Path(name) for name in named.split(",") if name]
    disabled = os.environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "t", "true")
    return [folder / ".env"] if not disabled and (folder / ".env").is_file() else []


def _is_enabled(service: Mapping[str, Any], variables: Mapping[str, str]) -> bool:
    """Return whether docker compose would build the service without its name in the command."""
    profiles = service.get("profiles") or []
    names = map(str, profiles if isinstance(profiles, list) else [profiles])
    enabled = {name.strip() for name in variables.get("COMPOSE_PROFILES", "").split(",")}
    return not profiles or "*" in enabled or not enabled.isdisjoint(names)


def _images(
    main: _Project,
    project: _Project,
    name: str,
    service: Mapping[str, Any],
    note: Callable[[str], None],
) -> list[str]:
    """Return the image of a service, and the tags that its ``build`` adds."""
    build = service["build"]
    tags = _untagged(build.get("tags")) if isinstance(build, dict) else None
    own = service.get("image")
    separator = "_" if main.variables.get("COMPOSE_COMPATIBILITY", "").lower() in ("1", "true") else "-"
    named = [] if own else [f"{main.name}{separator}{name}"]
    written = [*([own] if own else []), *(tags if isinstance(tags, list) else [])]
    return named + [_interpolate_image(str(text), project, note) for text in written]


def _interpolate_image(text: str, project: _Project, note: Callable[[str], None]) -> str:
    interpolation = Interpolation(project.variables)
    image = _interpolate(text, interpolation, project.path)
    if interpolation.unset:
        unset = " and ".join(sorted(interpolation.unset))
        what = f"the variable{'s' if len(interpolation.unset) > 1 else ''} {unset} in {quoted(text)}"
        what += " are not set" if len(interpolation.unset) > 1 else " is not set"
        try:
            Reference.parse(image)
        except ReferenceMalformed:
            raise _invalid_error(project.path, what) from None
        note(f"{what}: the image is {image}, as in docker compose")
    return image


def _nothing_built_error(path: Path, left_out: Sequence[str]) -> InvalidOption:
    if not left_out:
        return InvalidOption(
            f"no service in the compose file {_shown(path)} has a build",
            hint="pusher pushes the images that a compose file builds; name others as IMAGE",
        )
    names = ", ".join(left_out[:5])
    return InvalidOption(
        f"the services of the compose file {_shown(path)} with a build are in profiles that are not active: "
        f"{names}",
        hint="name the profiles: COMPOSE_PROFILES=NAME pusher ...; for all: COMPOSE_PROFILES='*'",
    )


class _Reader:
    """Reads compose files, each once."""

    def __init__(self) -> None:
        self._documents: dict[Path, list[Mapping[str, Any]]] = {}

    def read(self, paths: Sequence[Path], folder: Path, variables: Mapping[str, str]) -> _Project:
        """Return the services of files, merged. Raises InvalidOption."""
        services: dict[str, Mapping[str, Any]] = {}
        include: list[Any] = []
        name = ""
        for path in paths:
            for document in self._load(path):
                name = str(document.get("name") or "") or name
                included = _untagged(document.get("include")) or []
                include += included if isinstance(included, list) else [included]
                for each, service in _services(document).items():
                    services[each] = _merge(services.get(each, {}), service)
        name = variables.get("COMPOSE_PROJECT_NAME") or (
            _interpolate(name, Interpolation(variables), paths[0]) or folder.name
        )
        name = re.sub(r"[^a-z0-9_-]", "", name.lower()).lstrip("_-")
        return _Project(paths[0], folder, name, services, include, variables)

    def included(self, project: _Project, outer: tuple[Path, ...]) -> Iterator[_Project]:
        """Yield the projects that a project includes, each with its own before it."""
        outer = (*outer, project.path.resolve())
        for entry in project.include:
            values = entry if isinstance(entry, dict) else {"path": entry}
            paths = [project.folder / path for path in _texts(values.get("path"), project)]
            if not paths:
                raise _invalid_error(project.path, "an include has no path")
            if any(path.resolve() in outer for path in paths) or len(outer) > _DEEPEST:
                raise _invalid_error(project.path, "it includes itself")
            own = _texts(values.get("project_directory"), project)
            folder = project.folder / own[0] if own else paths[0].parent
            env_files = [project.folder / path for path in _texts(values.get("env_file"), project)]
            env_files = env_files or [path for path in [folder / ".env"] if path.is_file()]
            found = self.read(paths, folder, read_env_files(env_files, project.variables))
            yield from self.included(found, outer)
            yield found

    def service(self, project: _Project, name: str) -> Mapping[str, Any]:
        """Return a service with what it has of the one that it extends. Raises InvalidOption."""
        return {key: _untagged(value) for key, value in self._extended(project, name, ()).items()}

    def _extended(
        self, project: _Project, name: str, extending: tuple[tuple[Path, str], ...]
    ) -> Mapping[str, Any]:
        if name not in project.services:
            raise _invalid_error(extending[-1][0], f"it extends {quoted(name)}, which is not a service")
        service = project.services[name]
        base = _untagged(service.get("extends"))
        if base is None:
            return service
        here = (project.path.resolve(), name)
        if here in extending or len(extending) > _DEEPEST:
            raise _invalid_error(project.path, f"the service {quoted(name)} extends itself")
        file = base.get("file") if isinstance(base, dict) else None
        other = str(base.get("service")) if isinstance(base, dict) else str(base)
        source = project
        if file is not None:
            path = project.folder / _interpolate(str(file), Interpolation(project.variables), project.path)
            source = self.read([path], path.parent, project.variables)
        return _merge(self._extended(source, other, (*extending, here)), service)

    def _load(self, path: Path) -> list[Mapping[str, Any]]:
        """Return the YAML documents of a file."""
        if path not in self._documents:
            if len(self._documents) >= _MAX_FILES:
                raise _invalid_error(path, f"there are more than {_MAX_FILES} files")
            self._documents[path] = _load(path)
        return self._documents[path]


def _untagged(value: object) -> Any:
    return value.value if isinstance(value, _Tagged) else value


def _texts(value: object, project: _Project) -> list[str]:
    """Return a string, or a list of them, with the values of variables."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    interpolation = Interpolation(project.variables)
    return [_interpolate(str(each), interpolation, project.path) for each in values]


def _services(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    services = document.get("services")
    found = services if isinstance(services, dict) else {}
    return {str(name): service if isinstance(service, dict) else {} for name, service in found.items()}


def _merge(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a service of one file with what another file says of it
    (https://docs.docker.com/reference/compose-file/merge/)."""
    merged = {key: base[key] for key in _KEYS if key in base}
    for key in _KEYS:
        value = other.get(key)
        if isinstance(value, _Tagged):
            merged[key] = value
        elif key == "build" and value is not None:
            merged[key] = _merge_build(_untagged(merged.get(key)), value)
        elif key == "profiles" and isinstance(value, list):
            merged[key] = [*(_untagged(merged.get(key)) or []), *value]
        elif value is not None:
            merged[key] = value
    return merged


def _merge_build(base: object, other: object) -> object:
    """Return a ``build`` of which only ``tags`` matter."""
    ours, theirs = (build.get("tags") if isinstance(build, dict) else None for build in (base, other))
    if isinstance(theirs, _Tagged):
        return {"tags": theirs}
    found = [value for value in (_untagged(ours), theirs) if isinstance(value, list)]
    return {"tags": [tag for tags in found for tag in tags]}


def _load(path: Path) -> list[Mapping[str, Any]]:
    import yaml

    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(_MAX_BYTES + 1) if sys.stdin is not None else b""
        else:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise _invalid_error(path, f"it has more than {_MAX_BYTES // 1024**2} MiB")
        documents = list(yaml.load_all(data, _loader()))
    except OSError as error:
        is_remote = ":" in path.as_posix()  # oci://..., https://...git
        raise InvalidOption(
            f"the compose file {_shown(path)} cannot be read: {error.strerror}",
            hint="for what docker compose downloads: docker compose config | pusher push --compose -"
            if is_remote
            else "check the path after --compose, or what the file includes and extends",
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise _invalid_error(path, f"it is not valid YAML{where}") from None
    except (ValueError, RecursionError):  # lists in lists
        raise _invalid_error(path, "it is not valid YAML") from None
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise _invalid_error(path, "it has no services")
    return documents


def _loader() -> Any:
    """Return a safe loader for which every scalar is a string, such as the tag 1.10, and that knows compose's
    own tags, ``!reset`` and ``!override``."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    def construct(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> object:
        if suffix == "reset":
            return _Tagged(None)
        value: object = None
        if isinstance(node, yaml.MappingNode):
            value = loader.construct_mapping(node, deep=True)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        elif isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        return _Tagged(value) if suffix == "override" else value

    Loader.add_multi_constructor("!", construct)
    return Loader


def _interpolate(text: str, interpolation: Interpolation, path: Path) -> str:
    try:
        return interpolation.interpolate(text)
    except VariableError as error:
        raise _invalid_error(path, str(error)) from None


def _invalid_error(path: Path, why: str) -> InvalidOption:
    return InvalidOption(
        f"the compose file {_shown(path)} cannot be used: {why}", hint="check it with: docker compose config"
    )


def _shown(path: Path) -> str:
    return "on standard input" if path == STANDARD_INPUT else str(path)

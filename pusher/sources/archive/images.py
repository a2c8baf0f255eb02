"""List the images in a docker-archive's ``manifest.json``, and choose one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pusher.dataclass import dataclass
from pusher.errors import ArchiveInvalid, ImageAmbiguous, ImageNotFound, ImageUnsupported, LayerMismatch
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import is_digest, of_bytes
from pusher.oci.manifest import diff_ids_of
from pusher.oci.platform import Platform
from pusher.sources.archive.file import ArchiveFile
from pusher.sources.archive.kinds import HOW
from pusher.sources.archive.roots import ArchivedImageFacts, Roots
from pusher.sources.base import Choice
from pusher.sources.image_names import did_you_mean, display_name, is_image_id, normalize_name, parse_number
from pusher.sources.platforms import platform_of
from pusher.text import suggest


@dataclass(frozen=True)
class ArchivedImage:
    """One image of ``manifest.json``: the paths of its config and layers, and its names."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]

    def is_called(self, name: str) -> bool:
        """Return whether ``name`` is one of its names, or its image ID."""
        if is_image_id(name) and self._config_hex.startswith(name.removeprefix("sha256:")):
            return True
        return normalize_name(name) in {normalize_name(own) for own in self.names}

    def read_config(self, archive: ArchiveFile) -> bytes:
        """Return its config. Raises LayerMismatch if its path has another digest."""
        config = archive.read(self.config)
        named = f"sha256:{self._config_hex}"
        if is_digest(named) and of_bytes(config) != named:
            raise LayerMismatch(
                f"the config in {archive.path} should have digest {named}, its bytes have {of_bytes(config)}",
                hint="save the image again",
            )
        return config

    @property
    def _config_hex(self) -> str:
        """Return the hex in the config's path: ``<hex>.json``, ``blobs/sha256/<hex>``, ``sha256:<hex>``."""
        return self.config.rpartition("/")[2].removesuffix(".json").removeprefix("sha256:")


def images_in(archive: ArchiveFile) -> tuple[ArchivedImage, ...]:
    """Return the images in ``manifest.json``."""
    if "manifest.json" not in archive and "index.json" in archive:
        raise ImageUnsupported(
            f"{archive.path} is an OCI archive, not a docker-archive",
            hint=suggest("use: {}", f"oci-archive:{archive.path}"),
        )
    archive.check_for("manifest.json")
    try:
        listed = load_json(archive.read("manifest.json"))
        if not isinstance(listed, list):
            raise TypeError
        return tuple(_image(item) for item in listed)
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveInvalid(f"the manifest.json in {archive.path} is not valid", hint=HOW) from error


@dataclass(frozen=True)
class Chosen:
    """An image of the archive, and the manifest or index that is pushed unchanged, if any."""

    image: ArchivedImage
    config: bytes
    root: str | None


def choose(archive: ArchiveFile, name: str | None, choice: Choice) -> Chosen:
    """Return the image that a name means: ``NAME``, an image ID, ``@N``, ``@DIGEST`` or ``NAME@DIGEST``.

    Of several, the one for the wanted platform. Raises ImageNotFound, ImageAmbiguous, ArchiveInvalid,
    LayerMismatch.
    """
    images = images_in(archive)
    if not images:
        raise ImageNotFound(f"{archive.path} contains no image")
    if (number := parse_number(name or "")) is not None:
        asked, digest, found = "", "", list(enumerate(images))[number:][:1]
    else:
        asked, _, digest = (name or "").partition("@")
        found = [
            (number, image) for number, image in enumerate(images) if not asked or image.is_called(asked)
        ]
    roots = Roots(archive)
    platforms: dict[int, Platform | None] = {}
    if len(found) > 1 and choice.platforms:
        platforms = {number: platform_of(image.read_config(archive)) for number, image in found}
        fitting = [each for each in found if choice.wants(platforms[each[0]])]
        found = fitting or found
    chosen = {
        (one.root or one.image.config, one.root or one.image.layers): (number, one)
        for number, image in reversed(found)
        for one in reversed(_with_roots(archive, image, roots, asked, digest))
        # an index may list a platform that no config of manifest.json has
        if not platforms or choice.wants(platforms[number]) or roots.may_hold(one.root, choice.wants)
    }
    if len(chosen) == 1:
        return next(iter(chosen.values()))[1]
    if not chosen and platforms:
        listed = ", ".join(dict.fromkeys(str(own) for own in platforms.values() if own))
        raise ImageNotFound(
            f"{archive.path} has no image for {choice.platforms[0]}", hint=f"its images are for {listed}"
        )
    if not chosen:
        known = [display_name(own) for image in images for own in image.names]
        numbers = f"it has @0 to @{len(images) - 1}"
        raise ImageNotFound(
            f"{archive.path} contains no image {name}", hint=did_you_mean(asked, known) if known else numbers
        )
    raise _ambiguous_error(archive, name, [*chosen.values()][::-1], roots)


def _with_roots(
    archive: ArchiveFile, image: ArchivedImage, roots: Roots, name: str, digest: str
) -> list[Chosen]:
    """Return the image with each root that may match; none if none has ``digest``."""
    config = image.read_config(archive)
    facts = ArchivedImageFacts(of_bytes(config), image.layers, diff_ids_in(archive, config))
    if digest and digest != facts.config:
        is_meant = roots.leads_to(digest, facts) and (not name or roots.may_be_called(digest, name))
        return [Chosen(image, config, digest)] if is_meant else []
    is_name = bool(name) and not is_image_id(name)
    found = roots.of(facts, name if is_name else None)
    return [Chosen(image, config, root) for root in found] or [Chosen(image, config, None)]


def diff_ids_in(archive: ArchiveFile, config: bytes) -> tuple[str, ...]:
    """Return the diff IDs that a config in the archive lists. Raises ArchiveInvalid."""
    try:
        return diff_ids_of(config)
    except ValueError as error:
        raise ArchiveInvalid(f"{archive.path}: {error}") from error


def _ambiguous_error(
    archive: ArchiveFile, name: str | None, found: Sequence[tuple[int, Chosen]], roots: Roots
) -> ImageAmbiguous:
    """Return the error that lists the images by name, or by number and platform if names are equal."""
    names = [roots.names_of(one.root, one.image.names) for _, one in found]
    platforms = [platform_of(one.config) for _, one in found]
    often = Counter(own for some in names for own in some)
    listed: list[str] = []
    words: list[str] = []
    for (number, _), own, platform in zip(found, names, platforms, strict=True):
        if own and all(often[name] == 1 for name in own):
            words += own
            listed += map(display_name, own)
        else:
            words.append(f"@{number}")
            listed.append(f"@{number} ({platform})" if platform else f"@{number}")
    hint = suggest("choose one: {}", f"docker-archive:{archive.path}:{words[0]}")
    if words[0].startswith("@") and None not in platforms and len(set(platforms)) == len(platforms):
        hint += f", or with --platform {platforms[0]}"
    is_name = name is not None and "@" not in name and not is_image_id(name)
    called = f" {name}" if is_name else "" if often else " without names"
    return ImageAmbiguous(
        f"{archive.path} contains {len(found)} images{called}: {', '.join(listed[:20])}", hint=hint
    )


def _image(item: dict[str, object]) -> ArchivedImage:
    config, layers, names = item["Config"], item["Layers"], item.get("RepoTags")
    names, layers = names or [], layers or []
    if not isinstance(config, str) or not isinstance(layers, list) or not isinstance(names, list):
        raise TypeError
    if not all(isinstance(text, str) for text in (*layers, *names)):
        raise TypeError
    return ArchivedImage(config, tuple(layers), tuple(names))

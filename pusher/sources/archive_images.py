"""The images that a docker-archive's ``manifest.json`` lists, and the choice of one of them."""

from __future__ import annotations

from dataclasses import dataclass

from pusher.errors import ArchiveInvalid, ImageAmbiguous, ImageNotFound, ImageUnsupported, LayerMismatch
from pusher.oci.digest import is_digest, of_bytes
from pusher.oci.foreign import load_json
from pusher.sources.archive_file import HOW, ArchiveFile
from pusher.sources.names import choose_one, did_you_mean, is_image_id, normalized, numbered, shown
from pusher.text import suggest


@dataclass(frozen=True)
class ArchivedImage:
    """One image of ``manifest.json``: where its config and layers lie in the archive, and its names."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is one of its names, or its image ID."""
        if is_image_id(name) and self._config_hex.startswith(name.removeprefix("sha256:")):
            return True
        return normalized(name) in {normalized(own) for own in self.names}

    def read_config(self, archive: ArchiveFile) -> bytes:
        """Its config's bytes; LayerMismatch if they are not what its path says."""
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
        """The hex digits in the config's path: ``<hex>.json`` or ``blobs/sha256/<hex>``."""
        return self.config.rpartition("/")[2].removesuffix(".json")


def images_in(archive: ArchiveFile) -> tuple[ArchivedImage, ...]:
    """What ``manifest.json`` lists."""
    if "manifest.json" not in archive and "index.json" in archive:
        raise ImageUnsupported(
            f"{archive.path} is an OCI archive and no docker-archive",
            hint=suggest("say so: {}", f"oci-archive:{archive.path}"),
        )
    try:
        listed = load_json(archive.read("manifest.json"))
        if not isinstance(listed, list):
            raise TypeError
        return tuple(_image(item) for item in listed)
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveInvalid(f"the manifest.json in {archive.path} cannot be understood", hint=HOW) from error


def choose(archive: ArchiveFile, name: str | None) -> ArchivedImage:
    """The image that a name, an image ID or ``@N`` means. Raises ImageNotFound, ImageAmbiguous."""
    images = images_in(archive)
    path = archive.path
    if not images:
        raise ImageNotFound(f"{path} holds no image")
    if name is None:
        found = list(images)
    elif (number := numbered(name)) is not None:
        found = list(images[number:][:1])
    else:
        found = [image for image in images if image.is_called(name)]
    if len(found) == 1:
        return found[0]
    names = [own for image in images for own in image.names]
    known = [shown(own) for own in names]
    if not found:
        raise ImageNotFound(f"{path} holds no image {name}", hint=did_you_mean(name or "", known))
    listed = ", ".join(known[:20]) if known else f"@0 to @{len(images) - 1}"
    raise ImageAmbiguous(
        f"{path} holds {len(images)} images: {listed}",
        hint=choose_one(f"docker-archive:{path}", names),
    )


def _image(item: dict[str, object]) -> ArchivedImage:
    config, layers, names = item["Config"], item["Layers"], item.get("RepoTags")
    names, layers = names or [], layers or []
    if not isinstance(config, str) or not isinstance(layers, list) or not isinstance(names, list):
        raise TypeError
    if not all(isinstance(text, str) for text in (*layers, *names)):
        raise TypeError
    return ArchivedImage(config, tuple(layers), tuple(names))

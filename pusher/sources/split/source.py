"""Wrap a source and split its large layers, for ``--split-layers SIZE``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pusher.errors import InvalidOption, LayerMismatch, StorageDoubtful
from pusher.oci.digest import of_bytes, short
from pusher.sources.base import ExportPiece, Pin, Source, SourceImage, SourceLayer
from pusher.sources.pins import SplitPin
from pusher.sources.split.config import rewrite_config
from pusher.sources.split.layer_plan import LayerPlan
from pusher.sources.split.layer_tars import (
    Read,
    attestations_in,
    diff_ids_in,
    open_tar,
    read_uncompressed,
    stack_of,
)
from pusher.sources.split.plan import (
    MAX_LAYERS,
    parts_of,
    plan_layer,
    too_many_error,
)
from pusher.sources.split.planning import Planned, largest_part, plan_image
from pusher.units import human_bytes

_SMALLEST: Final = 1 << 20

Reopen = Callable[[Pin], Source]


class SplitSource:
    """The image of ``inner`` with no layer's blob larger than ``size`` bytes.

    ``reopen`` opens the inner source from its pin. Raises InvalidOption if ``size`` is too small.
    """

    def __init__(
        self,
        inner: Source,
        size: int,
        reopen: Reopen,
        *,
        pin: SplitPin | None = None,
    ) -> None:
        if size < _SMALLEST:
            raise InvalidOption(
                f"layers cannot be split into parts of {size} bytes",
                hint=f"--split-layers takes {_SMALLEST} bytes (1 MiB) or more",
            )
        self._inner = inner
        self._size = size
        self._limit = largest_part(size)
        self._reopen = reopen
        self._pin = pin
        self._plans = () if pin is None else pin.plans

    def own_name(self) -> str | None:
        """Return the inner source's."""
        return self._inner.own_name()

    def resolve(self) -> SourceImage:
        """Read the layers that are too large once, to plan where to cut them.

        An image without any is returned unchanged. Raises ImageUnsupported, and what the inner source raises.
        """
        image = self._inner.resolve()
        if self._pin is not None:
            return self._image(image, self._pin)
        image, planned = self._plan(image)
        if not planned.layers:
            return image
        self._plans, config = planned.layers, planned.config
        parts = {plan.name: [part.diff_id for part in plan.parts] for plan in self._plans}
        new = rewrite_config(
            config,
            [
                parts.get(layer.export_name, [diff_id])
                for layer, diff_id in zip(stack_of(image), diff_ids_in(image, config), strict=True)
            ],
        )
        split = self._image(image, SplitPin(image.pin, self._size, new, self._plans))
        if len(split.layers) > MAX_LAYERS:
            raise too_many_error(f"the image would have {len(split.layers)} layers")
        return split

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> Iterator[Iterator[ExportPiece]]:
        """Yield the wanted parts, each layer's in one pass, and the other wanted pieces of the inner
        source."""
        ours = {part.diff_id for plan in self._plans for part in plan.parts}
        needed = [plan for plan in self._plans if any(part.diff_id in wanted for part in plan.parts)]

        def contents(plans: Sequence[LayerPlan], others: set[str]) -> Iterator[ExportPiece | _Content]:
            return self._contents(plans, others, skip_sizes, check_stop)

        def pieces() -> Iterator[ExportPiece]:
            whole = {plan.name: plan for plan in needed}
            for found in contents([plan for plan in needed if plan.late is None], set()):
                if not isinstance(found, ExportPiece):
                    plan, read = found
                    whole[plan.name] = plan_layer(
                        read,
                        limit=self._limit,
                        reserve=plan.reserve,
                        name=plan.name,
                        diff_id=plan.diff_id,
                        keep=True,
                    )
            for found in contents(needed, set(wanted) - ours):
                if isinstance(found, ExportPiece):
                    yield found
                else:
                    plan, read = found
                    yield from parts_of(whole[plan.name], read, limit=self._limit, wanted=wanted)

        yield pieces()

    def fall_back(self) -> Source | None:
        """Return the same parts from the inner source's fallback."""
        inner = self._inner.fall_back()
        return inner and SplitSource(inner, self._size, self._reopen, pin=self._pin)

    def _plan(self, image: SourceImage) -> tuple[SourceImage, Planned]:
        """Return the image from the source that could be read, and the plan for its layers."""
        source = self._reopen(image.pin)
        while True:
            try:
                return image, plan_image(source, image, self._size)
            except (StorageDoubtful, LayerMismatch):
                other = source.fall_back()
                if other is None:
                    raise
                source, image = other, other.resolve()

    def _image(self, image: SourceImage, pin: SplitPin) -> SourceImage:
        plans = {plan.name: plan for plan in self._plans}
        layers: list[SourceLayer] = []
        for layer in stack_of(image):
            plan = plans.get(layer.export_name)
            layers += [layer] if plan is None else [SourceLayer(part.diff_id) for part in plan.parts]
        notes = [
            f"layer {short(plan.diff_id)} ({human_bytes(plan.size)}) becomes {len(plan.parts)} layers"
            for plan in self._plans
        ]
        if attestations_in(image):
            notes.append("attestations are left out: they are about the image as it was")
        digest = of_bytes(pin.config)
        notes.append(
            f"an image with split layers has another digest and ID: {digest} instead of {image.config_digest}"
        )
        return SourceImage(digest, tuple(layers), pin, pin.config, (), (*image.notes, *notes))

    def _contents(
        self,
        plans: Sequence[LayerPlan],
        others: set[str],
        skip_sizes: Collection[int],
        check_stop: Callable[[], None] | None,
    ) -> Iterator[ExportPiece | _Content]:
        """Yield the layers of these plans, with a function to read each, and the ``others`` unchanged."""
        known = {plan.name: plan for plan in plans}
        names = set(known)
        files = {layer.export_name: layer.file for layer in self._inner.resolve().layers if layer.file}
        for plan in plans:
            if part := files.get(plan.name):
                names.discard(plan.name)
                with open_tar(part) as read:
                    yield plan, _stoppable(read, check_stop)
        if not names | others:
            return
        sizes = _Sizes(self._plans)
        skip = set(skip_sizes) - {plan.size for plan in self._plans}
        with self._inner.export(names | others, skip_sizes=skip, check_stop=check_stop) as pieces:
            for piece in pieces:
                found = sizes.plan_of(piece) if piece.name is None else known.get(piece.name)
                if found is None:
                    yield piece
                elif found.name in names:
                    read = (
                        piece.stream.read
                        if piece.kind == "layer"
                        else read_uncompressed(piece.stream, f"layer {piece.name}")
                    )
                    yield found, _stoppable(read, check_stop)


_Content = tuple[LayerPlan, Read]


class _Sizes:
    """Finds the plan of a layer without a name (`docker save` before 25) by size; of several, the first
    that is not used yet, as an engine always writes layers in one order."""

    def __init__(self, plans: Sequence[LayerPlan]) -> None:
        self._left = list(plans)

    def plan_of(self, piece: ExportPiece) -> LayerPlan | None:
        found = next((plan for plan in self._left if plan.size == piece.size), None)
        if found is not None:
            self._left.remove(found)
        return found


def _stoppable(read: Read, check_stop: Callable[[], None] | None) -> Read:
    """Return ``read``, with ``check_stop`` called before each read."""
    if check_stop is None:
        return read

    def read_checked(size: int) -> bytes:
        check_stop()
        return read(size)

    return read_checked

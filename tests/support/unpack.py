"""What unpackers make of layers, as a model: no file is written, so owners, devices and names can be any.

Python's own tarfile reads the layers here, so that a test does not believe the code it tests.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

NOW: Final = -1.0
"""The time of what was changed last by unpacking rather than by an entry."""
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"


@dataclass(eq=False)
class Node:
    """A file of any kind; hard links are one node in several places."""

    facts: tuple[object, ...] = ("folder", 0o755, 0, 0, ())
    """Kind, mode, owner, group, what it holds, extended attributes."""
    mtime: float = NOW
    children: dict[str, Node] | None = None
    opaque: bool = False

    @property
    def is_whiteout(self) -> bool:
        return self.facts[0] == "whiteout"


@dataclass
class _Tree:
    root: Node = field(default_factory=lambda: Node(children={}))

    def folder(self, steps: Sequence[str]) -> dict[str, Node]:
        """The children of a folder, which is made if it is not there."""
        node = self.root
        assert node.children is not None
        children = node.children
        for step in steps:
            if step not in children or children[step].children is None:
                node.mtime = NOW
                deleted = step in children and children[step].is_whiteout
                children[step] = Node(children={}, opaque=deleted)
            node = children[step]
            assert node.children is not None
            children = node.children
        return children

    def node(self, steps: Sequence[str]) -> Node:
        if not steps:
            return self.root
        return self.folder(steps[:-1])[steps[-1]]


def one_after_the_other(layers: Sequence[bytes]) -> dict[str, object]:
    """All layers into one folder, as containerd, umoci and podman's vfs driver do it."""
    tree = _Tree()
    for layer in layers:
        fresh: set[Node] = set()
        _unpack(tree, layer, fresh, alone=False)
    return _described(tree.root)


def each_alone(layers: Sequence[bytes]) -> dict[str, object]:
    """Each layer into a folder of its own, and these laid over each other, as Docker's overlay2 does it."""
    result = Node(children={})
    for layer in layers:
        tree = _Tree()
        _unpack(tree, layer, set(), alone=True)
        result = _laid_over(result, tree.root)
    return _described(result)


def _unpack(tree: _Tree, layer: bytes, fresh: set[Node], *, alone: bool) -> None:
    """``fresh``: what this layer brought, which opaque folders do not hide."""
    folders: list[tuple[Node, float]] = []
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            steps = [step for step in member.name.split("/") if step not in ("", ".")]
            name = steps[-1] if steps else ""
            if not steps:
                _set(tree.root, member)
                folders.append((tree.root, member.mtime))
                continue
            siblings = tree.folder(steps[:-1])
            parent = tree.node(steps[:-1])
            parent.mtime = NOW
            if name == _OPAQUE:
                parent.opaque = True
                _hide(siblings, fresh)
                continue
            if name.startswith(_WHITEOUT):
                hidden = name.removeprefix(_WHITEOUT)
                assert siblings.get(hidden) not in fresh
                siblings.pop(hidden, None)
                if alone:
                    siblings[hidden] = Node(("whiteout",))
                continue
            node = _made(tree, tar, member, siblings.get(name))
            siblings[name] = node
            fresh.add(node)
            if member.isdir():
                folders.append((node, member.mtime))
    for node, mtime in folders:
        node.mtime = mtime


def _made(tree: _Tree, tar: tarfile.TarFile, member: tarfile.TarInfo, there: Node | None) -> Node:
    if member.islnk():
        target = [step for step in member.linkname.split("/") if step not in ("", ".")]
        siblings = tree.folder(target[:-1])
        assert target[-1] in siblings, (
            f"{member.name} is a link to {member.linkname}, which is in no folder here"
        )
        return siblings[target[-1]]
    if member.isdir():
        node = there if there is not None and there.children is not None else Node(children={})
        node.opaque = node.opaque or (there is not None and there.is_whiteout)
        _set(node, member)
        return node
    node = Node()
    content: object = (member.linkname, member.devmajor, member.devminor)
    if member.isreg():
        file = tar.extractfile(member)
        assert file is not None
        content = file.read()
    _set(node, member, content)
    return node


def _set(node: Node, member: tarfile.TarInfo, content: object = None) -> None:
    kind = "folder" if member.isdir() else "file" if member.isreg() else member.type.decode()
    xattrs = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")}
    node.facts = (kind, member.mode, member.uid, member.gid, content, tuple(sorted(xattrs.items())))
    node.mtime = member.mtime


def _hide(siblings: dict[str, Node], fresh: set[Node]) -> None:
    for name, node in list(siblings.items()):
        if node.children is not None:
            _hide(node.children, fresh)
            if not node.children and node not in fresh:
                del siblings[name]
        elif node not in fresh:
            del siblings[name]


def _laid_over(lower: Node, upper: Node) -> Node:
    if upper.children is None or lower.children is None or upper.opaque:
        return _without_whiteouts(upper)
    names = [*lower.children, *(name for name in upper.children if name not in lower.children)]
    children: dict[str, Node] = {}
    for name in names:
        above, below = upper.children.get(name), lower.children.get(name)
        if above is None:
            assert below is not None
            children[name] = below
        elif not above.is_whiteout:
            children[name] = _without_whiteouts(above) if below is None else _laid_over(below, above)
    return Node(upper.facts, upper.mtime, children)


def _without_whiteouts(node: Node) -> Node:
    if node.children is None:
        return node
    kept = {name: child for name, child in node.children.items() if not child.is_whiteout}
    return Node(node.facts, node.mtime, {name: _without_whiteouts(child) for name, child in kept.items()})


def _walk(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, child in (node.children or {}).items():
        yield from _walk(child, f"{path}/{name}")


def _described(root: Node) -> dict[str, object]:
    """Every path with what is there, and the paths that are the same file."""
    places: dict[int, list[str]] = {}
    for path, node in _walk(root, ""):
        places.setdefault(id(node), []).append(path)
    same = {number: tuple(sorted(paths)) for number, paths in places.items()}
    return {path: (*node.facts, node.mtime, same[id(node)]) for path, node in _walk(root, "")}

"""Stream request bodies to disk and files to responses, never whole in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from pusher.serve.errors import ApiError
from pusher.serve.uploads import BLOCK, Upload

STALL: Final = 300.0
"""Seconds that a client may send nothing in the middle of a body."""
_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_CONTENT_RANGE: Final = re.compile(r"(?:bytes )?(\d{1,19})-(\d{1,19})(?:/(?:\d{1,19}|\*))?")


async def receive(request: Request, upload: Upload, *, algorithm: str | None = None) -> int:
    """Append the body to the upload, in the place that Content-Range says if there is one; return the turn.

    What arrived before a client hung up, or fell silent, is kept. Raises ApiError: 416 for a chunk out of its
    place, SIZE_INVALID for a body of another size than announced; ClientDisconnect, OSError.
    """
    start, length = _read_content_range(request)
    turn = await run_in_threadpool(upload.take_turn, start, algorithm)
    await _append(request, upload, turn, length)
    return turn


async def receive_whole(request: Request, upload: Upload, most: int) -> None:
    """Append the body like ``receive``, but discard it if it is incomplete.

    Raises ApiError 413 for a body of more than ``most`` bytes, and what ``receive`` raises.
    """
    too_large = ApiError(413, "SIZE_INVALID", f"a request has at most {most} bytes")
    start, length = _read_content_range(request)
    if (sent := request.headers.get("content-length", "")).isdigit() and int(sent) > most:
        raise too_large
    turn = await run_in_threadpool(upload.take_turn, start)
    try:
        if await _append(request, upload, turn, length) > most:
            raise too_large
    except (ApiError, ClientDisconnect):
        await run_in_threadpool(upload.discard, turn)
        raise


async def _append(request: Request, upload: Upload, turn: int, length: int | None) -> int:
    """Append the body, of ``length`` bytes if not None; return its size."""
    received = 0
    async with _BlockWriter(upload, turn) as writer:
        async for part in _parts(request):
            received += len(part)
            if length is not None and received > length:
                raise ApiError(400, "SIZE_INVALID", f"the chunk is larger than its range of {length} bytes")
            await writer.write(part)
    if length is not None and received < length:
        raise ApiError(400, "SIZE_INVALID", f"the chunk has {received} bytes, and its range {length}")
    return received


class _BlockWriter:
    """Appends parts of a body to an upload in blocks. A thread hashes and writes one block while the next is
    received. What was received is written at the end, also after an error."""

    def __init__(self, upload: Upload, turn: int) -> None:
        self._upload = upload
        self._turn = turn
        self._parts: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._write_block()
        await self._finish_block()

    async def write(self, part: bytes) -> None:
        """Take a part of the body. Raises what ``Upload.append`` raises for the blocks before."""
        self._parts.append(part)
        self._size += len(part)
        if self._size >= BLOCK:
            await self._write_block()

    async def _write_block(self) -> None:
        await self._finish_block()
        if self._size:
            parts, self._parts, self._size = self._parts, [], 0
            self._writing = asyncio.ensure_future(run_in_threadpool(self._upload.append, self._turn, *parts))

    async def _finish_block(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing


def _read_content_range(request: Request) -> tuple[int | None, int | None]:
    """Return where the chunk begins, and its bytes; None where that is not said. Raises ApiError."""
    header = request.headers.get("content-range")
    if header is None:
        return None, None
    found = _CONTENT_RANGE.fullmatch(header.strip())
    first, last = map(int, found.groups()) if found else (1, 0)
    if last < first:
        raise ApiError(416, "BLOB_UPLOAD_INVALID", "Content-Range is not written like 0-1023")
    length, sent = last - first + 1, request.headers.get("content-length")
    if sent is not None and sent.isdigit() and int(sent) != length:
        raise ApiError(400, "SIZE_INVALID", f"Content-Range is of {length} bytes, Content-Length {sent}")
    return first, length


async def receive_small(request: Request, most: int) -> bytes:
    """Return the body. Raises ApiError: 413 if it has more than ``most`` bytes."""
    too_large = ApiError(413, "SIZE_INVALID", f"the manifest has more than {most} bytes")
    if (sent := request.headers.get("content-length", "")).isdigit() and int(sent) > most:
        raise too_large
    body = bytearray()
    async for part in _parts(request):
        body += part
        if len(body) > most:
            raise too_large
    return bytes(body)


async def _parts(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Raises ApiError: 408 where a client falls silent."""
    stream = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout(STALL):
                part = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ApiError(
                408, "BLOB_UPLOAD_INVALID", f"nothing came for {STALL:.0f} s", headers={"Connection": "close"}
            ) from None
        yield part


def send_file(request: Request, path: Path, size: int, headers: Mapping[str, str]) -> Response:
    """Return a file, or the one range that is asked for; ``headers`` has its ETag. Raises
    FileNotFoundError."""
    headers = dict(headers)
    start, end, status = asked_range(request, size, headers)
    if request.method == "HEAD" or status == 304:
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_read(path.open("rb"), start, end), status, headers)


def asked_range(request: Request, size: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """Return the first byte that is wanted, the one after the last, and the status: 200, 206 or 304.

    ``headers``, which has the ETag, gets what belongs to that. Raises ApiError: 416 for a range behind the
    end.
    """
    headers["Accept-Ranges"] = "bytes"
    if is_known(request, headers["ETag"]):
        return 0, 0, 304
    start, end, status = _read_range(request, size, headers["ETag"])
    if status == 416:
        raise ApiError(
            416, "SIZE_INVALID", f"the blob has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return start, end, status


async def _read(file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    with file:
        file.seek(start)
        while start < end:
            block = await run_in_threadpool(file.read, min(BLOCK, end - start))
            if not block:
                return  # the length says that something is missing
            start += len(block)
            yield block


def _read_range(request: Request, size: int, etag: str) -> tuple[int, int, int]:
    """Return the first byte, the byte after the last, and the status (RFC 9110, 14.2: what is not understood
    is ignored, and so are several ranges)."""
    condition = request.headers.get("if-range", etag)
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or condition != etag or found.groups() == ("", ""):
        return 0, size, 200
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return 0, size, 200
    return start, end, 206 if start < end else 416


def is_known(request: Request, etag: str) -> bool:
    """Return whether the client has it already, by If-None-Match."""
    known = request.headers.get("if-none-match")
    return known is not None and matches(known, etag)


def matches(condition: str, etag: str) -> bool:
    """Return whether an If-Match or If-None-Match names the ETag."""
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return "*" in tags or etag in tags

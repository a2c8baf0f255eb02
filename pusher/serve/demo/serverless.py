"""Impose the limits of Cloudflare's serverless-registry on the API: chunks of 5 MiB to 100 MB, stored
whole or discarded."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pusher.registry.upload.profiles.table import SERVERLESS
from pusher.serve.api import Api
from pusher.serve.bodies import receive_whole
from pusher.serve.local import LocalRegistry
from pusher.serve.uploads import Upload

_STATE: Final = "?_stateHash=demo"
"""By the like of which that registry is known."""


class ServerlessApi(Api):
    """The handlers. ``min_chunk`` and ``max_chunk`` in bytes."""

    def __init__(
        self,
        registry: LocalRegistry,
        *,
        min_chunk: int = SERVERLESS.min_chunk,
        max_chunk: int = SERVERLESS.max_chunk or 0,
    ) -> None:
        super().__init__(registry)
        self._min_chunk = min_chunk
        self._max_chunk = max_chunk

    async def open_upload(self, request: Request) -> Response:
        """Send the limits."""
        answer = await super().open_upload(request)
        if answer.status_code == 202:
            answer.headers["Location"] += _STATE
            answer.headers["OCI-Chunk-Min-Length"] = str(self._min_chunk)
            answer.headers["OCI-Chunk-Max-Length"] = str(self._max_chunk)
        return answer

    async def write_upload(self, request: Request) -> Response:
        """Send the location as that registry does."""
        answer = await super().write_upload(request)
        answer.headers["Location"] += _STATE
        return answer

    async def receive_chunk(self, request: Request, upload: Upload) -> None:
        """Store a whole chunk, or a stream that is no longer than one; discard what breaks off."""
        await receive_whole(request, upload, self._max_chunk)

"""The finished media: a small, real, playable MP4 and a PNG, served with Content-Length and Range support.

Each task's video is a file of its own: the same pictures, and at the end a box that players skip, with the task's name.
"""

import hashlib
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ringback.sandbox.book import Book, State

_DATA = Path(__file__).parent / "data"
VIDEO = _DATA / "sample.mp4"
IMAGE = _DATA / "sample.png"
_RANGE = re.compile(r"bytes=([0-9]{1,12})-([0-9]{0,12})")


class Media:
    """The routes under `/media`, and the files behind them."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def routes(self) -> list[Route]:
        """Return the media routes."""
        return [
            Route("/media/sample.mp4", self._sample_video),
            Route("/media/sample.png", self._sample_image),
            Route("/media/tasks/{name}/0.mp4", self._task_video),
        ]

    async def _sample_video(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        return FileResponse(VIDEO, media_type="video/mp4")

    async def _sample_image(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        return FileResponse(IMAGE, media_type="image/png")

    async def _task_video(self, request: Request) -> Response:
        name = request.path_params["name"]
        task = self._book.find("qingbo", name) or self._book.find("reapi", f"task_{name}")
        if task is None or task.state is not State.COMPLETED:
            raise HTTPException(404)
        return _part(request, video_of(name))


def video_of(name: str) -> bytes:
    """Return a task's video, whole: no two are the same."""
    label = name.encode()
    return VIDEO.read_bytes() + (8 + len(label)).to_bytes(4, "big") + b"free" + label


def _part(request: Request, video: bytes) -> Response:
    """Answer with all of it, or with the one range that was asked for."""
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{hashlib.sha256(video).hexdigest()[:32]}"'}
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        return Response(video, 200, headers, media_type="video/mp4")
    first, last = int(asked[1]), min(int(asked[2] or len(video)), len(video) - 1)
    if first > last:
        return Response(b"", 416, headers | {"Content-Range": f"bytes */{len(video)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(video)}"
    return Response(video[first : last + 1], 206, headers, media_type="video/mp4")

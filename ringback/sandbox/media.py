"""The finished media: one small, real, playable MP4 and a PNG, served with Content-Length and Range support."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ringback.sandbox.book import Book, State

_DATA = Path(__file__).parent / "data"
VIDEO = _DATA / "sample.mp4"
IMAGE = _DATA / "sample.png"


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
        return FileResponse(VIDEO, media_type="video/mp4")

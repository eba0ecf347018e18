"""Luma's Dream Machine: submits with a callback_url, pushes every change, unsigned.

Sources: `PROVIDERS C`, docs.lumalabs.ai (changelog/callbacks-and-credits-balance) and lumalabs/lumaai-python (types).
It wants exactly 200 within 5 s and hardly tries again, so the poller is its net. Pure.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ringback.errors import Unsupported
from ringback.model import Callback, Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample

STATES = {
    "queued": TaskState.SUBMITTED,
    "dreaming": TaskState.PROCESSING,
    "completed": TaskState.COMPLETED,
    "failed": TaskState.FAILED,
}
WORDS = {state: word for word, state in STATES.items()}
ASSETS = ("video", "image")  # not progress_video, which shows the way and not the result
ID_KEYS = ("id",)
IMAGE_MODELS = "photon"  # photon-1, photon-flash-1; all others make videos
FRAMES = ("frame0", "frame1")

DIALECT = forms.Dialect(provider="luma", invalid="", missing="")
RESERVED = frozenset({"model", "prompt", "aspect_ratio", "resolution", "duration", "callback_url"})
UNUSED = {
    "action": "Luma has no actions; leave the action out",
    "callback_events": "Luma has no filter of events; leave callback_events out",
}


class Luma(Provider):
    """Luma's generations of videos (Ray) and images (Photon)."""

    name = "luma"
    base_url = "https://api.lumalabs.ai/dream-machine/v1"
    models = ("ray-2", "ray-flash-2", "photon-1", "photon-flash-1")
    result_life = timedelta(hours=24)  # not documented; a cautious guess
    retry_window = timedelta(seconds=16)  # three tries of 5 s
    retries = "3 times, 100 ms apart, where the answer was not exactly 200 within 5 s"
    documents = "PROVIDERS C, docs.lumalabs.ai and lumalabs/lumaai-python"

    def validate(self, form: Form) -> None:
        """Refuse what Luma has no field for: more than two frames of a video, a length of an image."""
        forms.check_form(form, DIALECT, RESERVED)
        for key in _pictures(form).keys() & form.extra.keys():
            raise DIALECT.refuse(key, f"{key} is given twice: as image_urls and as an extra")
        for field, reason in UNUSED.items():
            if getattr(form, field):
                raise DIALECT.refuse(field, reason)
        if _is_image(form):
            for field in ("resolution", "duration"):
                if getattr(form, field) is not None:
                    raise DIALECT.refuse(field, f"images have no {field} at Luma; leave it out")
        elif len(form.image_urls) > len(FRAMES):
            message = f"a video has a first and a last frame, got {len(form.image_urls)} image_urls"
            raise DIALECT.refuse("image_urls", message)
        if forms.is_blank(form.prompt) and not form.image_urls and "keyframes" not in form.extra:
            raise DIALECT.refuse("prompt", "prompt is required when there are no images")

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /generations/video, or /generations/image for Photon."""
        form = self.checked_form(task)
        path = "/generations/image" if _is_image(form) else "/generations/video"
        body = forms.encode(_submission(form, callback_url))
        return Request(method="POST", path=path, body=body, headers={"Content-Type": "application/json"})

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: the generation, queued."""
        return reading.acceptance(self.name, response, ID_KEYS, lambda found: found, lambda task: self._read(task, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /generations/{id}."""
        return Request(method="GET", path=f"/generations/{reading.path_id(task.provider_id)}")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to GET /generations/{id}."""
        return self._read(reading.answer(response), now)

    def read_callback(self, callback: Callback) -> Reading:
        """Read a push: the generation, as a fetch gives it."""
        return self._read(reading.document(callback.body), callback.received_at)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push: the generation when it is dreaming, completed or failed (lumaai-python)."""
        if status not in WORDS:
            raise Unsupported(f"Luma has no state for {status}")
        done, failed = status is TaskState.COMPLETED, status is TaskState.FAILED
        said = {
            "id": provider_id,
            "generation_type": "video",
            "state": WORDS[status],
            "failure_reason": "The prompt was rejected by moderation" if failed else None,
            "created_at": now.isoformat(),
            "assets": {"video": f"https://storage.cdn-luma.com/dream_machine/{provider_id}.mp4"} if done else None,
            "model": self.models[0],
        }
        return Sample(body=msgspec.json.encode(said))

    def _read(self, said: dict[str, Any], now: datetime) -> Reading:
        """Read a generation. It does not say how long its URLs work: `now` and `result_life` are the estimate."""
        provider_id, status = reading.identify(said, ID_KEYS), reading.state(said.get("state"), STATES)
        found = reading.results(_results(said.get("assets")), now + self.result_life)
        return reading.conclude(status, provider_id, found=found, error=said.get("failure_reason"))


def _is_image(form: Form) -> bool:
    return form.model.startswith(IMAGE_MODELS)


def _pictures(form: Form) -> dict[str, Any]:
    """Give the images in Luma's names: the frames of a video, or what an image shall look like."""
    if not form.image_urls:
        return {}
    if _is_image(form):
        return {"image_ref": [{"url": url} for url in form.image_urls]}
    frames = zip(FRAMES, form.image_urls, strict=False)
    return {"keyframes": {frame: {"type": "image", "url": url} for frame, url in frames}}


def _submission(form: Form, callback_url: str | None) -> dict[str, Any]:
    """Give the request body: only what the user set, in Luma's names; a duration is written 5s there."""
    fields = {
        "model": form.model,
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "aspect_ratio": form.aspect_ratio,
        "resolution": form.resolution,
        "duration": None if form.duration is None else f"{form.duration}s",
        "callback_url": callback_url,
    }
    return {key: value for key, value in fields.items() if value is not None} | _pictures(form) | form.extra


def _results(assets: Any) -> Iterator[tuple[str, Any, Any]]:
    for kind in ASSETS if type(assets) is dict else ():
        yield kind, assets.get(kind), None

"""reAPI: submits video tasks and never calls back, so its tasks live on the poller's schedule.

Sources: `shared seed 000…` (the provider's page about Grok Imagine) and `PROVIDERS B` (its task and error pages). No
callbacks, no Idempotency-Key and no cancellation are documented. Pure.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

from ringback.lifecycle import is_terminal
from ringback.model import Form, Reading, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response

# Whether an action of the form means image-to-video; shared seed 000…: the count of image_urls decides alone.
ACTIONS = {"generate": False, "image2video": True}
RESULT_LISTS = (("video_urls", "video"), ("image_urls", "image"), ("audio_urls", "audio"))
ID_KEYS = ("id", "task_id")  # PROVIDERS B: one page's prose says task_id, the JSON says id
CREDITS_PER_USD = 1_000  # shared seed 000…, "Pricing": 1 credit = $0.001
MICRODOLLARS_PER_CREDIT = 1_000

# shared seed 000…, "Validation errors"
DIALECT = forms.Dialect(
    provider="reapi",
    invalid="20003",
    missing="20002",
    aspect_ratio="size",
    resolution="quality",
    grok="grok-imagine: ",
    prompt_limit=4_000,
    too_long="20007",
)
FORM_KEYS = frozenset(
    {"model", "prompt", "size", "quality", "duration", "image_urls", "callback_url", "callback_events"}
)


class Reapi(Provider):
    """reAPI's video generations."""

    name = "reapi"
    base_url = "https://reapi.ai/api/v1"
    models = (forms.GROK,)
    pushes = False
    documents = "shared seed 000… and PROVIDERS B"
    result_life = timedelta(days=7)
    longest = timedelta(hours=48)
    gives_back = frozenset({TaskState.FAILED})  # shared seed 000…: "Failed jobs refund automatically."

    def validate(self, form: Form) -> None:
        """Refuse what shared seed 000… refuses, with its codes; other models are only checked for types and URLs."""
        forms.check_form(form, DIALECT, FORM_KEYS)
        if form.callback_events:
            raise DIALECT.refuse("callback_events", "reAPI sends no callbacks; leave callback_events out")
        if form.action is not None and ACTIONS.get(form.action) is not bool(form.image_urls):
            message = (
                f'action "{form.action[:60]}" contradicts {len(form.image_urls)} image_urls, which decide the mode'
            )
            raise DIALECT.refuse("image_urls", message + "; leave the action out")
        if form.model == forms.GROK:
            forms.check_grok(form, DIALECT)

    def price(self, form: Form, usd_per_second: Decimal | None) -> int | None:
        """Apply shared seed 000…: ceil(per_second_usd × duration × 1000) credits; the page does not say the rate."""
        seconds = forms.seconds_of(form)
        if usd_per_second is None or seconds is None:
            return None
        credits_due = (usd_per_second * seconds * CREDITS_PER_USD).to_integral_value(ROUND_CEILING)
        return int(credits_due) * MICRODOLLARS_PER_CREDIT

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /videos/generations (shared seed 000…); it has no place for a callback_url."""
        form = self.checked_form(task)
        body = forms.encode(_submission(form))
        return Request(
            method="POST", path="/videos/generations", body=body, headers={"Content-Type": "application/json"}
        )

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: the same envelope as a fetch."""
        return reading.acceptance(self.name, response, ID_KEYS, lambda found: found, lambda task: self._read(task, now))

    def build_fetch(self, task: Task) -> Request:
        """Build GET /tasks/{id}; an id that could climb out of the path is refused."""
        return Request(method="GET", path=f"/tasks/{reading.path_id(task.provider_id)}")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read the answer to GET /tasks/{id}."""
        return self._read(reading.answer(response), now)

    def _read(self, task: dict[str, Any], now: datetime) -> Reading:
        """Read a task object; its URLs live 7 days from completion, which it does not tell: `now` is the estimate."""
        provider_id, status = reading.identify(task, ID_KEYS), reading.state(task.get("status"))
        if status is TaskState.COMPLETED:
            found = reading.results(_results(task.get("output")), now + self.result_life)
            return Reading(status=status, provider_id=provider_id, results=found)
        error = reading.task_error(task.get("error")) if is_terminal(status) else None
        return Reading(status=status, provider_id=provider_id, error=error)


def _submission(form: Form) -> dict[str, Any]:
    """Give the request body: only what the user set, in reAPI's names."""
    fields = {
        "model": form.model,
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "size": form.aspect_ratio,
        "duration": form.duration,
        "quality": form.resolution,
        "image_urls": list(form.image_urls) or None,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra


def _results(output: Any) -> Iterator[tuple[str, Any, Any]]:
    """Walk the lists of URLs and the last frame (PROVIDERS B)."""
    if type(output) is not dict:
        return
    for key, kind in RESULT_LISTS:
        urls = output.get(key)
        for url in urls if type(urls) is list else ():
            yield kind, url, None
    yield "image", output.get("last_frame_url"), None

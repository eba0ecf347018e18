"""What the demo submits: every fault of the sandbox at least once, both providers, text to video and image to video.

A fault is asked for by a tag in the prompt, which travels over the unmodified wire format (docs/how-to/sandbox.md).
"""

from dataclasses import dataclass
from typing import Any

from ringback.model import TaskState

MODEL = "grok-imagine-1.0-video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One task of the demo and what should come of it."""

    name: str
    provider: str = "qingbo"
    prompt: str = "A paper boat on a rainy street"
    fault: str | None = None
    with_image: bool = False
    ends: TaskState = TaskState.COMPLETED
    polled: bool = False  # settled by the poller, because no push can tell

    def form(self, image_url: str) -> dict[str, Any]:
        """Give the keyword arguments of `Submitter.submit`."""
        prompt = f"{self.prompt} [fault:{self.fault}]" if self.fault else self.prompt
        images = (image_url,) if self.with_image else ()
        return {"model": MODEL, "prompt": prompt, "image_urls": images, "duration": 6, "resolution": "480p"}


ACTS = (
    Act(name="text to video"),
    Act(name="image to video", with_image=True),
    Act(name="pushed five times", fault="duplicate_push"),
    Act(name="push lost", fault="lost_push", polled=True),
    Act(name="push before our answer", fault="early_push"),
    Act(name="late `processing`", fault="late_processing"),
    Act(name="forged push", fault="forged_push"),
    Act(name="slow push", fault="slow_push"),
    Act(name="push about another task", fault="wrong_task"),
    Act(name="push above 1 MiB", fault="oversized_push", polled=True),
    Act(name="500 at submission", fault="submit_5xx"),
    Act(name="429 at submission", fault="submit_429"),
    Act(name="timeout after acceptance", fault="submit_timeout"),
    Act(name="fails", fault="failed", ends=TaskState.FAILED),
    Act(name="text to video", provider="reapi", polled=True),
    Act(name="image to video", provider="reapi", with_image=True, polled=True),
    Act(name="429 at submission", provider="reapi", fault="submit_429", polled=True),
    Act(name="fails", provider="reapi", fault="failed", ends=TaskState.FAILED, polled=True),
)


def act_key(place: int) -> str:
    """Give the key of the task at this place in the plan."""
    return f"demo-{place}"

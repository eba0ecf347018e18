"""AssemblyAI: transcribes a recording, pushes the transcript's id and status, with a header that we choose.

Sources: `PROVIDERS C` (AssemblyAI) and assemblyai.com/docs (deployment/webhooks-for-pre-recorded-audio,
pre-recorded-audio/transcript-status). The push is thin: the text, and the reason of a failure, are behind a call that
needs the key. Pure.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ringback.lifecycle import is_terminal
from ringback.model import Callback, Form, Notice, Reading, Result, Task, TaskState
from ringback.providers import form as forms
from ringback.providers import reading
from ringback.providers.provider import Provider, Request, Response, Sample
from ringback.providers.signatures import FixedHeader

AUTH_HEADER = "x-assemblyai-webhook-secret"
REDACTED = "redacted_audio_ready"  # of PII redaction; from memory of its page, so only the word is used
CALLBACK_KEYS = ("transcript_id",)
ID_KEYS = ("id",)
NO_PLACE = ("action", "image_urls", "aspect_ratio", "resolution", "duration")
UNSET: tuple[Any, ...] = (None, (), [])

DIALECT = forms.Dialect(provider="assemblyai", invalid="400", missing="400")
FORM_KEYS = frozenset({"speech_models", "prompt", "webhook_url"})


class AssemblyAI(Provider):
    """AssemblyAI's pre-recorded transcription. The recording's address is the extra `audio_url`.

    The per-task URL authenticates its callbacks. Who wants the header as well sets RINGBACK_ASSEMBLYAI_SECRET and gives
    the same text with every submission, as the extras webhook_auth_header_name (x-assemblyai-webhook-secret) and
    webhook_auth_header_value: from then on callbacks without it are refused. The value is part of the request, so the
    ledger keeps it with the task.
    """

    name = "assemblyai"
    base_url = "https://api.assemblyai.com/v2"
    models = ("universal-3-pro", "universal-2")
    scheme = FixedHeader(header=AUTH_HEADER)
    scheme_optional = True
    account_endpoint = True
    retries = "10 tries, 10 s each; a 4xx ends them"  # the pause between them is not documented
    documents = "PROVIDERS C and assemblyai.com/docs"

    def validate(self, form: Form) -> None:
        """Refuse a submission without a recording, and what a transcription has no place for."""
        forms.check_form(form, DIALECT, FORM_KEYS)
        if form.callback_events:
            raise DIALECT.refuse("callback_events", "AssemblyAI has no filter of events; leave callback_events out")
        for field in NO_PLACE:
            if getattr(form, field) not in UNSET:
                raise DIALECT.refuse(field, f"a transcription has no {field}")
        if not reading.is_web_url(form.extra.get("audio_url")):
            raise DIALECT.refuse("audio_url", 'expected an http(s) URL as an extra: --extra audio_url="https://…"')
        _check_auth(form)

    def build_submission(self, task: Task, callback_url: str | None) -> Request:
        """Build POST /transcript."""
        form = self.checked_form(task)
        body = forms.encode(_submission(form, callback_url))
        return Request(method="POST", path="/transcript", body=body, headers={"Content-Type": "application/json"})

    def read_acceptance(self, response: Response, now: datetime) -> Reading:
        """Read the answer to a submission: the transcript, queued or processing."""
        return reading.acceptance(
            self.name, response, ID_KEYS, lambda found: found, lambda task: self._read(task, ID_KEYS)
        )

    def authorization(self, api_key: str, now: datetime) -> Mapping[str, str]:
        """Give the key as it is, without a scheme."""
        return {"Authorization": api_key}

    def build_fetch(self, task: Task) -> Request:
        """Build GET /transcript/{id}."""
        return Request(method="GET", path=f"/transcript/{reading.path_id(task.provider_id)}")

    def read_task(self, response: Response, task: Task, now: datetime) -> Reading:
        """Read a transcript."""
        return self._read(reading.answer(response), ID_KEYS)

    def read_callback(self, callback: Callback) -> Reading | Notice:
        """Read a push: {transcript_id, status}; the one about a redacted recording names no transcript."""
        said = reading.document(callback.body)
        if said.get("status") == REDACTED and said.get("transcript_id") is None:
            return Notice(type=REDACTED)
        return self._read(said, CALLBACK_KEYS)

    def build_sample(self, provider_id: str, status: TaskState, now: datetime) -> Sample:
        """Write a push: there are two, completed and error."""
        word = {TaskState.COMPLETED: "completed", TaskState.FAILED: "error"}.get(status)
        if word is None:
            return super().build_sample(provider_id, status, now)
        return Sample(body=msgspec.json.encode({"transcript_id": provider_id, "status": word}))

    def _read(self, said: dict[str, Any], keys: tuple[str, ...]) -> Reading:
        """Read a transcript or a push about one. Its result is where the transcript is; that stays until deleted."""
        provider_id, status = reading.identify(said, keys), reading.state(said.get("status"))
        if status is TaskState.COMPLETED:
            url = f"{self.base_url}/transcript/{reading.path_id(provider_id)}"
            return Reading(status=status, provider_id=provider_id, results=(Result(kind="transcript", url=url),))
        error = reading.task_error(said.get("error")) if is_terminal(status) else None
        return Reading(status=status, provider_id=provider_id, error=error)


def _check_auth(form: Form) -> None:
    """Refuse one half of the pair that makes AssemblyAI add a header, and a header that the receiver does not read."""
    name, value = form.extra.get("webhook_auth_header_name"), form.extra.get("webhook_auth_header_value")
    if (name, value) == (None, None):
        return
    if type(name) is not str or name.lower() != AUTH_HEADER:
        raise DIALECT.refuse("webhook_auth_header_name", f"expected {AUTH_HEADER}, which the receiver looks at")
    if type(value) is not str or not value.strip():
        raise DIALECT.refuse("webhook_auth_header_value", "expected the text of RINGBACK_ASSEMBLYAI_SECRET")


def _submission(form: Form, callback_url: str | None) -> dict[str, Any]:
    """Give the request body: only what the user set."""
    fields = {
        "speech_models": [form.model],
        "prompt": None if forms.is_blank(form.prompt) else form.prompt,
        "webhook_url": callback_url,
    }
    return {key: value for key, value in fields.items() if value is not None} | form.extra

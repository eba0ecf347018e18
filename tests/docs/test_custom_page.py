"""What docs/how-to/custom-provider.md shows is taken as it stands, and a push goes through."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringback.errors import SettingsError
from ringback.model import Form, Task, TaskState
from ringback.providers.custom import Custom
from ringback.providers.custom_table import CREDENTIALS, KEYS_OF_CUSTOM, KINDS, STATES, SUBMIT_NAMES
from ringback.providers.handshakes import Handshake
from ringback.providers.provider import Response
from ringback.providers.signatures import SCHEMES
from ringback.settings import Settings

from .pages import ROOT, blocks
from .test_verify_page import bash, receiving
from .tools import install

PAGE = ROOT / "docs/how-to/custom-provider.md"
EXAMPLE, ROTATION = blocks(PAGE, "toml")
SECRET = "a secret with blanks & signs"


def load(folder: Path, toml: str = EXAMPLE, **environ: str) -> Settings:
    """Read settings with the page's file."""
    (folder / "ringback.toml").write_text(toml, encoding="utf-8")
    database = f"sqlite:///{folder}/ringback.db"
    return Settings.from_environ({"RINGBACK_DATABASE_URL": database, "RINGBACK_SECRET": "s" * 32} | environ, folder)


@pytest.mark.parametrize("tools", ["of the machine", "stand-ins"])
async def test_the_push_goes_through(tools: str, tmp_path: Path) -> None:
    """The page's lines are accepted, once, by a receiver with the page's file; another secret is not."""
    (tmp_path / "bin").mkdir()
    if tools == "stand-ins" or not (shutil.which("openssl") and shutil.which("curl")):
        install(tmp_path / "bin")
    (lines,) = blocks(PAGE, "bash")
    async with receiving(load(tmp_path, RINGBACK_ACME_SECRET=SECRET)) as address:
        url = f"{address}/callbacks/acme"
        first = msgspec.json.decode(await bash(lines, tmp_path, URL=url, SECRET=SECRET))
        again = msgspec.json.decode(await bash(lines, tmp_path, URL=url, SECRET=SECRET))
        wrong = msgspec.json.decode(await bash(lines, tmp_path, URL=url, SECRET="another one"))
    assert (first["received"], first["duplicate"]) == (True, False)
    assert again == first | {"duplicate": True}
    assert wrong == {"received": False, "error": "unauthorised"}


def acme(folder: Path) -> Custom:
    """Give the page's provider."""
    made = load(folder).catalogue["acme"]
    assert isinstance(made, Custom)
    return made


def test_the_requests_of_the_example(tmp_path: Path) -> None:
    """What the page's templates make of a form, and of a task."""
    provider = acme(tmp_path)
    form = Form(model="acme-1", prompt="a dog", duration=6)
    task = Task(id="task_1", provider="acme", provider_id="job-1", form=form)
    request = provider.build_submission(task, "https://us.example/cb")
    assert (request.method, request.path) == ("POST", "/videos")
    assert msgspec.json.decode(request.body or b"") == {
        "model": "acme-1",
        "input": {"prompt": "a dog", "seconds": 6},
        "webhook": "https://us.example/cb",
    }
    assert provider.build_fetch(task).path == "/videos/job-1"
    answered: dict[str, Any] = {"id": "job-1", "state": "ready", "videos": [{"url": "https://cdn.acme.example/1.mp4"}]}
    told = provider.read_task(Response(status=200, body=msgspec.json.encode(answered)), task, task.created_at)
    assert (told.status, len(told.results)) == (TaskState.COMPLETED, 1)


def test_the_rotation_of_the_example(tmp_path: Path) -> None:
    """Both secrets of the second example are taken."""
    assert [secret.until is None for secret in load(tmp_path, ROTATION).provider("acme").secret] == [True, False]


def test_the_mistakes_of_the_page(tmp_path: Path) -> None:
    """The two messages that the page shows are what such mistakes are told."""
    shown = [line.partition(", ")[2] for line in blocks(PAGE, "text")[0].splitlines()]
    told = []
    for good, bad in (("header =", "hedaer ="), ('["job.state", "event"]', '["event", "job..state"]')):
        assert good in EXAMPLE
        with pytest.raises(SettingsError) as caught:
            load(tmp_path, EXAMPLE.replace(good, bad))
        told.append(str(caught.value).partition(".toml, ")[2])
    assert told == shown


def test_everything_has_its_words() -> None:
    """Each key, option, scheme, word and placeholder is on the page."""
    text = PAGE.read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`\n]+)`", text)) | set(tomllib.loads(EXAMPLE)["providers"]["acme"])
    wanted = {*KEYS_OF_CUSTOM, *SCHEMES, "none", *STATES, *KINDS, *Handshake, *CREDENTIALS}
    assert wanted - words == set()
    assert all(f"`{{{name}}}`" in text for name in SUBMIT_NAMES)

"""Every way to sign that docs/how-to/verify-signatures.md shows passes at a real receiver."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
import uvicorn

from receiver.web import create_app
from ringback.providers.signatures import SCHEMES, callback_url
from ringback.settings import Settings
from tests.serving import Server

from .pages import FENCE, ROOT
from .tools import install

PAGE = ROOT / "docs/how-to/verify-signatures.md"
OURS = "0123456789abcdef0123456789abcdef"
BASE64_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLPSw"
# What is configured where the page's own first block does not say it.
SECRETS = {"`standard-webhooks`": BASE64_SECRET, "`basic`": "user:pass word", "The token in our URL": OURS}
PARTIAL = ("`fields-hmac`",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One way to sign, as the page has it."""

    heading: str
    text: str
    toml: str
    shell: tuple[str, ...]  # the last one posts

    @property
    def provider(self) -> str:
        """The provider that it is shown with, by the variable that the section names."""
        found = re.search(r"RINGBACK_([A-Z]+)_(?:SECRET|JWKS_URL)", self.text)
        return found[1].lower() if found else "acme" if self.toml else "qingbo"


def sections() -> Iterator[Section]:
    """Give the parts of the page that hold lines to run."""
    for part in re.split(r"^##+ ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        found = [(match[2], match[3]) for match in FENCE.finditer(part)]
        shell = tuple(text for language, text in found if language == "bash")
        if shell:
            toml = "".join(text for language, text in found if language == "toml")
            yield Section(heading=part.partition("\n")[0], text=part, toml=toml, shell=shell)


SECTIONS = list(sections())


async def bash(text: str, folder: Path, **environ: str) -> str:
    """Run lines of the page in a folder, with the tools of this machine or their stand-ins."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", text,
        cwd=folder, env=os.environ | environ | {"PATH": path},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, errors.decode()
    return told.decode()


@contextmanager
def published(folder: Path) -> Iterator[str]:
    """Serve a folder's files, as `python3 -m http.server` does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@asynccontextmanager
async def receiving(settings: Settings) -> AsyncIterator[str]:
    """Run a receiver on a free port; gives its address. Public keys are there before the first callback comes."""
    app = create_app(settings)
    listening = asyncio.Event()
    server = Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on"), listening.set)
    running = asyncio.create_task(server.serve())
    try:
        await asyncio.wait_for(listening.wait(), 10)
        key_sets = app.state.receiver.key_sets
        for name, given in settings.providers.items():
            if given.jwks_url:
                key_sets.keys(settings.catalogue[name])
        await key_sets.close()  # waits for what is being fetched
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.should_exit = True
        await running


def settings_of(section: Section, secret: str, folder: Path, jwks_url: str) -> Settings:
    """Set up what the section says."""
    name = section.provider.upper()
    (folder / "ringback.toml").write_text(section.toml)
    environ = {"RINGBACK_SECRET": OURS, "RINGBACK_DATABASE_URL": f"sqlite:///{folder}/ringback.db"}
    if "JWKS_URL" in section.text:
        environ[f"RINGBACK_{name}_JWKS_URL"] = jwks_url
    elif section.provider != "qingbo":
        environ[f"RINGBACK_{name}_SECRET"] = secret
    return Settings.from_environ(environ, folder)


def target_of(section: Section, address: str) -> str:
    """Give what `$URL` stands for: the account's URL, a task's, or the receiver."""
    if section.provider == "qingbo":
        return address
    if "token of a task's own URL" in section.text:
        return callback_url(address, OURS.encode(), section.provider, "task_one")
    return f"{address}/callbacks/{section.provider}"


@pytest.mark.parametrize("tools", ["of the machine", "stand-ins"])
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading.strip("`"))
async def test_lines_pass(section: Section, tools: str, tmp_path: Path) -> None:
    """The lines of a section are accepted by a receiver set up as the section says."""
    (tmp_path / "bin").mkdir()
    if tools == "stand-ins" or not (shutil.which("openssl") and shutil.which("curl")):
        install(tmp_path / "bin")
    secret = SECRETS.get(section.heading, "a secret with blanks & signs")
    for text in section.shell[:-1]:
        secret = (await bash(text, tmp_path)).strip() or secret
    with published(tmp_path) as jwks_url:
        settings = settings_of(section, secret, tmp_path, jwks_url)
        async with receiving(settings) as address:
            url = target_of(section, address)
            said = msgspec.json.decode(await bash(section.shell[-1], tmp_path, URL=url, SECRET=secret))
            wrong = (
                "" if tools == "stand-ins" else await bash(section.shell[-1], tmp_path, URL=url, SECRET=spoilt(secret))
            )
    assert (said["received"], said["event"] is None) == (True, section.heading in PARTIAL)
    if wrong and "key.pem" not in section.text:  # there the secret is not what signs
        assert msgspec.json.decode(wrong) == {"received": False, "error": "unauthorised"}


def spoilt(secret: str) -> str:
    """Give another secret of the same form."""
    return secret[:-2] + ("A" if secret[-2] != "A" else "B") + secret[-1]


def test_every_scheme_is_shown() -> None:
    """Each scheme has a section with lines that post."""
    shown = {section.heading.strip("`") for section in SECTIONS} | set(
        re.findall(r"^## `(.*)`$", PAGE.read_text(), re.MULTILINE)
    )
    assert set(SCHEMES) <= shown
    assert all("curl -sS" in section.shell[-1] for section in SECTIONS)

"""The code in README and tutorial is code that works."""

import importlib
import re
import tomllib
from pathlib import Path

import httpx
import pytest

from receiver import Handlers
from ringback.settings import Settings

from .pages import PAGES, ROOT, blocks

STARTING = [ROOT / "README.md", ROOT / "docs/tutorial/first-callback.md"]


def write(page: Path, language: str, folder: Path) -> list[str]:
    """Write each block that begins with a file's name into that file; gives the names."""
    names = []
    for text in blocks(page, language):
        if found := re.match(r"# ([\w.]+)\n", text):
            (folder / found[1]).write_text(text, encoding="utf-8")
            names.append(found[1])
    return names


@pytest.mark.parametrize("page", STARTING, ids=lambda page: page.stem)
def test_handlers_load(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handlers of the page can be loaded by the name that the page gives them."""
    assert write(page, "python", tmp_path) == ["app.py"]
    module = tmp_path / f"app_{page.stem.replace('-', '_')}.py"  # a module is imported once: each page its own
    (tmp_path / "app.py").rename(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    loaded = Handlers.load(f"{module.stem}:handlers")
    assert [[pattern.event for pattern in patterns] for patterns in loaded.patterns().values()] == [["task.completed"]]
    assert "app:handlers" in page.read_text(encoding="utf-8")


def test_settings_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tutorial's ringback.toml is read without complaint."""
    assert write(STARTING[1], "toml", tmp_path) == ["ringback.toml"]
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environ({})
    assert (settings.handlers, settings.push_deadline_seconds) == ("app:handlers", 10)
    assert settings.provider("qingbo").api_key == "sk-sandbox"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_other_snippets_are_well_formed(page: Path) -> None:
    """Python and TOML on any page can at least be read."""
    for text in blocks(page, "python"):
        compile(_completed(text), str(page), "exec", flags=0x2000)  # top-level await is shown in places
    for text in blocks(page, "toml"):
        tomllib.loads(text)


def _completed(text: str) -> str:
    """Give decorators that are shown alone something to decorate."""
    return re.sub(r"^(@.*)$\n+(?=@|\Z)", r"\1\ndef f(): ...\n", text, flags=re.MULTILINE)


async def test_mounted_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mounted receiver answers under its path, and the application beside it."""
    monkeypatch.chdir(tmp_path)
    app = importlib.import_module("examples.mounted").app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://us") as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/ringback/healthz")).json() == {"status": "ok"}
        assert (await client.post("/ringback/callbacks/nobody/x")).status_code == 404

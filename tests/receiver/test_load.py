"""Finding the user's handlers: `Handlers.load("module:name")`."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver import Handlers
from ringback.errors import HandlersError

GOOD = "from receiver import Handlers\nhandlers = Handlers()\nother = 3\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, with nothing left on the path afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_found_in_the_working_directory(folder: Path) -> None:
    """Modules and packages beside the user are found, after everything that is installed."""
    (folder / "inner").mkdir()
    (folder / "inner" / "mine.py").write_text(GOOD)
    (folder / "json.py").write_text("raise SystemError")
    assert isinstance(Handlers.load("inner.mine:handlers"), Handlers)
    assert Handlers.load("inner.mine:handlers") is Handlers.load("inner.mine:handlers")
    assert sys.path[-1] == str(folder)
    assert sys.path.count(str(folder)) == 1
    with pytest.raises(HandlersError, match=r"module 'json' .*has no 'handlers'"):
        Handlers.load("json:handlers")


@pytest.mark.parametrize("reference", ["", "mine", "mine:", ":handlers"])
def test_bad_reference(reference: str) -> None:
    """Anything but module:name is refused with an example."""
    with pytest.raises(HandlersError, match="expected module:name"):
        Handlers.load(reference)


def test_missing_module(folder: Path) -> None:
    """A missing module is named, with where it was looked for."""
    with pytest.raises(HandlersError, match=f"no module 'mine': looked .*{folder}"):
        Handlers.load("mine.inner:handlers")


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (GOOD, "handler", "has no 'handler'; did you mean 'handlers'"),
        (GOOD, "other", "is no Handlers: int; did you mean 'handlers'"),
        (GOOD + "more = Handlers()", "mor", "did you mean 'more'"),
        ("", "handlers", r"write there: handlers = receiver.Handlers\(\)"),
    ],
)
def test_missing_name(folder: Path, source: str, name: str, message: str) -> None:
    """A missing or wrong name is answered with the likely one and the file that was read."""
    (folder / "mine.py").write_text(source)
    with pytest.raises(HandlersError, match=f"mine.py.*{message}"):
        Handlers.load(f"mine:{name}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "\nimport nosuchthing",
            "ModuleNotFoundError: No module named 'nosuchthing'; .*mine.py, line 2: import",
        ),
        ("def f():\n    1 / 0\nf()", "ZeroDivisionError: division by zero; .*mine.py, line 2: 1 / 0"),
        ("x =", "SyntaxError: .*mine.py, line 1"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
    ],
)
def test_failing_module(folder: Path, source: str, message: str) -> None:
    """A module that fails is told apart from a missing one, with its error and the line that raised it."""
    (folder / "mine.py").write_text(source)
    with pytest.raises(HandlersError, match=message):
        Handlers.load("mine:handlers")


def test_no_web_framework() -> None:
    """A process that only runs handlers never loads the web framework."""
    code = "import sys, receiver, receiver.worker; print([m for m in ('starlette', 'httpx') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")

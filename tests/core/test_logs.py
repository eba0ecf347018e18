"""Log lines: one event each, for people or for programs, with no secret and no callback token in any of them."""

import io
import json
import logging
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ringback.logs import HIDDEN, Redactor, configure, mask

SECRET = "a\"b\\c'd é-and-32-bytes-of-it-all!"
MAC = "A-_9" * 8
URL = f"https://hook.example/callbacks/qingbo/task_1a.{MAC}"
TEXTS = st.text(min_size=4, max_size=40).filter(lambda text: text not in HIDDEN)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def set_up(style: str | None, stream: io.StringIO | None = None, **more: Any) -> io.StringIO:
    """Set logging up on a stream in memory."""
    stream = stream or io.StringIO()
    configure(style=style, stream=stream, secrets=[SECRET, "abc"], **more)
    return stream


@pytest.mark.parametrize("style", ["json", None])
def test_json_for_programs(style: str | None) -> None:
    """Where nobody watches, each line is one JSON object: event, level, time, fields."""
    stream = set_up(style)
    structlog.get_logger().info("task.submitted", task="task_1", count=3, odd={1})
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"event": "task.submitted", "level": "info", "task": "task_1", "count": 3, "odd": [1]}


def test_readable_on_a_terminal() -> None:
    """On a terminal lines are for people, in colour; without one and on request they are plain."""
    stream = set_up(None, Terminal())
    structlog.get_logger().info("task.submitted", task="task_1")
    assert "\x1b[" in stream.getvalue()
    stream = set_up("console")
    structlog.get_logger().info("task.submitted", task="task_1")
    assert "\x1b[" not in stream.getvalue()
    assert "task.submitted" in stream.getvalue()


def test_people_are_spared_what_is_none() -> None:
    """A field that is None is left out for people, and null for programs."""
    stream = set_up("console")
    structlog.get_logger().info("intake.told", reason=None, count=0)
    assert ("reason" in stream.getvalue(), "count=0" in stream.getvalue()) == (False, True)
    stream = set_up("json")
    structlog.get_logger().info("intake.told", reason=None)
    assert json.loads(stream.getvalue())["reason"] is None


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_secret_in_any_line(style: str) -> None:
    """Secrets and tokens are hidden in fields, messages and tracebacks, of our loggers and of foreign ones."""
    stream = set_up(style)
    ours, foreign = structlog.get_logger(), logging.getLogger("some.library")
    ours.info("a", key=SECRET, url=URL, nested={"deep": [SECRET]}, shown=repr(SECRET), data=repr(SECRET.encode()))
    foreign.warning("sent %s to %s, answered %s", SECRET, URL, URL.replace("/", r"\/"))
    for told in (ours.exception, foreign.exception):
        try:
            raise ValueError(SECRET, {"key": SECRET}, URL)
        except ValueError:
            told("b")
    text = stream.getvalue()
    assert text.count("Traceback") == 2
    assert text.count(HIDDEN) >= 8
    assert ".<mac>" in text
    assert MAC not in text
    assert "32-bytes" not in text
    if style == "json":
        assert [json.loads(line)["event"] for line in text.splitlines()][0::2] == ["a", "b"]


def test_line_that_cannot_be_written_is_written_otherwise() -> None:
    """A log call never fails over its fields."""
    stream = set_up("json")
    structlog.get_logger().info("odd", text="\ud800", key=SECRET)
    fields = json.loads(stream.getvalue())
    assert "odd" in fields["event"]
    assert fields["text"] == r"'\ud800'"
    assert "32-bytes" not in stream.getvalue()


def test_level_and_quiet_libraries() -> None:
    """What is below the level is not written, and chatty libraries say only what matters."""
    stream = set_up("json", level="debug")
    logging.getLogger("httpx").info("GET https://api.example")
    logging.getLogger("other").debug("heard")
    set_up("json", stream, level="error")
    structlog.get_logger().warning("unheard")
    logging.getLogger("other").warning("unheard")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["heard"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_one_event_is_one_line(style: str) -> None:
    """A line break in a value does not begin a new line, so nobody can forge one."""
    stream = set_up(style)
    structlog.get_logger().info("task.refused", note="no\nINFO all is well")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (URL, URL.replace(MAC, "<mac>")),
        (f"POST /callbacks/qingbo/task_a.{MAC}?x HTTP/1.1", "POST /callbacks/qingbo/task_a.<mac>?x HTTP/1.1"),
        (URL.replace("/", r"\/"), URL.replace("/", r"\/").replace(MAC, "<mac>")),
        (URL.replace("/", "%2F"), URL.replace("/", "%2F").replace(MAC, "<mac>")),
        (f"{URL} {URL}/", f"{URL} {URL}/".replace(MAC, "<mac>")),
        (f"/callbacks/qingbo/task_a.{MAC}x", f"/callbacks/qingbo/task_a.{MAC}x"),
        (f"task_a.{MAC[:-1]}.mp4", f"task_a.{MAC[:-1]}.mp4"),
        ("/callbacks/qingbo", "/callbacks/qingbo"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    """The token of a callback URL is hidden wherever it stands; what is none stays readable."""
    assert mask(text) == masked


@given(st.text(), st.text())
def test_mask_never_leaks(before: str, after: str) -> None:
    """Whatever stands around it, a complete token never comes through."""
    if after[:1] not in ("-", "_") and not after[:1].isalnum():
        assert MAC not in mask(f"{before}/callbacks/qingbo/task_a.{MAC}{after}")


@given(st.lists(TEXTS, min_size=1, max_size=4), st.text(), st.text())
def test_redactor_never_leaks(secrets: list[str], before: str, after: str) -> None:
    """No known secret comes through, as it is or as JSON or Python show it, but those that our own mark contains."""
    redact = Redactor(secrets)
    for secret in secrets:
        for shown in (secret, repr(secret), json.dumps(secret), json.dumps([repr(secret)])):
            line = redact(f"\0{shown}\0")
            assert secret not in line or secret in HIDDEN
    assert len(redact(before + after)) >= 0


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed")])
def test_a_line_that_cannot_be_written_harms_nobody(error: Exception) -> None:
    """A full disk or a reader that is gone costs the line, not the callback that it tells of."""

    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise error

        def flush(self) -> None:
            raise error

    set_up("json", Broken())
    structlog.get_logger().info("callback.received")

"""For all tests: our own environment must not leak in, and CI may not skip anything."""

import logging
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import structlog

SKIPPED: list[str] = []

# A shell that runs the tests in the background has them ignore Ctrl-C, and whatever they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the developer has set for their own Ringback."""
    for name in list(os.environ):
        if name == "PORT" or (name.startswith("RINGBACK_") and not name.startswith("RINGBACK_TEST_")):
            monkeypatch.delenv(name)
    return


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail in CI where a whole module would be skipped."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome = "failed"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what was skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        SKIPPED.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail in CI where a test was skipped: a skipped check is no check."""
    if os.environ.get("CI") and SKIPPED:
        print(f"\nskipped in CI, which counts as a failure: {', '.join(SKIPPED)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _plain_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a test's command did to logging. Loggers are not cached, or they would keep it for ever."""
    configure = structlog.configure

    def uncached(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()

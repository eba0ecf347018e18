"""For all tests: our own environment must not leak in, and CI may not skip anything."""

import os
from collections.abc import Iterator

import pytest

SKIPPED: list[str] = []


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away what the developer has set for their own Ringback."""
    for name in list(os.environ):
        if name == "PORT" or (name.startswith("RINGBACK_") and not name.startswith("RINGBACK_TEST_")):
            monkeypatch.delenv(name)
    yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what was skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        SKIPPED.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail in CI where a test was skipped: a skipped check is no check."""
    if os.environ.get("CI") and SKIPPED:
        print(f"\nskipped in CI, which counts as a failure: {', '.join(SKIPPED)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""What submitting is measured with: both loops reach the sandbox, and ours is held against its ledger."""

import argparse

import pytest

from bench import submission
from bench.figures import Part


@pytest.mark.slow
def test_both_submit_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A small round gives a rate for each, and the ratio with its goal."""
    monkeypatch.setattr("sys.argv", ["bench.submission", "--rounds", "2", "--tasks", "20", "--at-once", "4", "--json"])
    assert submission.main() == 0
    part = Part.read(capsys.readouterr().out)
    assert {figure.subject for figure in part.of("tasks")} == {submission.OURS, submission.BARE, submission.APART}
    (ratio,) = part.of("over the bare loop")
    assert (len(ratio.values), ratio.at_least) == (2, submission.GOAL)


@pytest.mark.slow
def test_a_round_that_lost_a_task_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ledger does not hold was not submitted, however fast it was."""
    monkeypatch.setattr(submission, "WARM_UP", 3)
    options = argparse.Namespace(tasks=5, at_once=2)
    timed = submission._timed

    async def forgetful(*arguments: object) -> submission.Result:
        result = await timed(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(submission, "WARM_UP", 4)
        return result

    monkeypatch.setattr(submission, "_timed", forgetful)
    with pytest.raises(SystemExit, match="8 tasks were accepted"):
        submission._round(submission._submit_ours, options)

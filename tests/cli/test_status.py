"""What `ringback status` says of a ledger that is too large to be counted."""

from dataclasses import replace
from datetime import UTC, datetime

from ringback.cli.status import _fields, shape
from ringback.ledger import Summary
from ringback.model import TaskState


def test_an_estimate_is_told_from_what_was_counted() -> None:
    """It is written with three digits and `about`; what was counted, as it is."""
    tasks = {TaskState.COMPLETED: 9_612_345, TaskState.SUBMITTED: 12}
    summary = Summary(tasks=tasks, callbacks=9_876_543, duplicates=1_234, estimated=frozenset({"tasks"}))
    shown = dict(_fields(summary))
    assert shown["tasks"] == "about 9,610,000: completed 9,610,000, submitted 12"
    assert shown["callbacks"] == "about 9,880,000, 1,230 of them duplicates"
    assert dict(_fields(replace(summary, estimated=frozenset())))["callbacks"].startswith("9,876,543, 1,234 ")
    assert shape(summary, datetime.now(UTC))["estimated"] == ["tasks"]

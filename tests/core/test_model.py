"""The records: ids that can be read and sorted, times that come back, and tables that leave no state out."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.lifecycle import TERMINAL
from ringback.model import (
    EVENT_OF_STATE,
    EventType,
    Receipt,
    Result,
    Task,
    TaskState,
    Verdict,
    id_moment,
    microseconds,
    moment,
    new_id,
)

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds


@given(MOMENTS)
def test_moments_come_back(when: datetime) -> None:
    """A moment survives being stored, to the microsecond."""
    assert moment(microseconds(when)) == when


@given(MOMENTS)
def test_ids_tell_their_time(when: datetime) -> None:
    """An id tells when it was made, to the millisecond."""
    made = new_id("task", when)
    assert made.startswith("task_")
    told = id_moment(made)
    assert told is not None
    assert timedelta(0) <= when - told < timedelta(milliseconds=1)


@given(MOMENTS, MOMENTS)
def test_ids_sort_by_time(one: datetime, other: datetime) -> None:
    """Ids that were made in different milliseconds sort as they were made."""
    first, second = sorted([one, other])
    if second - first >= timedelta(milliseconds=1):
        assert new_id("evt", first) < new_id("evt", second)


def test_ids_do_not_repeat() -> None:
    """Ids of one moment differ."""
    now = datetime(2026, 7, 1, tzinfo=UTC)
    assert len({new_id("dlv", now) for _ in range(1_000)}) == 1_000


@given(st.text() | st.from_regex(r"task_[0-9a-f]{30}", fullmatch=True))
def test_other_text_tells_no_time(text: str) -> None:
    """Reading the time out of any text never fails."""
    told = id_moment(text)
    assert told is None or told.tzinfo is not None


@pytest.mark.parametrize("text", ["", "task_1", "task_" + "f" * 30, "task_" + "G" * 30, "f" * 29])
def test_no_time_in_foreign_ids(text: str) -> None:
    """Ids of other make, and digits beyond the calendar, tell no time."""
    assert id_moment(text) is None


def test_every_told_state_has_its_event() -> None:
    """Each state that a provider can tell is one kind of event; each terminal one has its own."""
    assert set(EVENT_OF_STATE) == set(TaskState) - {TaskState.PENDING}
    assert {EVENT_OF_STATE[state].value for state in TERMINAL} == {f"task.{state.value}" for state in TERMINAL}
    assert {kind for kind in EventType if kind.value.startswith("task.")} == set(EVENT_OF_STATE.values())


def test_records_are_frozen_and_say_what_repeats() -> None:
    """Records cannot be changed, and only a duplicate is one."""
    task = Task(id="task_a", provider="qingbo")
    with pytest.raises(AttributeError):
        task.state = TaskState.COMPLETED  # type: ignore[misc]
    assert [verdict for verdict in Verdict if Receipt(verdict=verdict).duplicate] == [Verdict.DUPLICATE]


def test_a_result_is_written_without_what_it_lacks() -> None:
    """What every event holds in the ledger stays as short as what the provider told."""
    assert msgspec.json.encode(Result(kind="video", url="https://c/x")) == b'{"kind":"video","url":"https://c/x"}'

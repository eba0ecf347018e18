"""Which state may follow which: for every state, author and fact there is."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback import lifecycle
from ringback.lifecycle import RANK, TERMINAL, advance, settle
from ringback.model import DeliveryState, Outcome, Source, Standing, TaskState
from ringback.retry import Policy

NOW = datetime(2026, 7, 1, tzinfo=UTC)
OPEN = sorted(set(TaskState) - TERMINAL)
PROVIDER = [source for source in Source if source is not Source.RINGBACK]
FACTS = st.tuples(st.sampled_from(sorted(TERMINAL) + OPEN[1:]), st.sampled_from(list(Source)))


def follow(facts: Sequence[tuple[TaskState, Source]]) -> tuple[TaskState, Source | None]:
    """Tell where a new task stands after these facts."""
    state, settled_by = TaskState.PENDING, None
    for status, source in facts:
        step = advance(state, settled_by, status, source)
        state, settled_by = step.state, step.settled_by
    return state, settled_by


@pytest.mark.parametrize("state", TaskState)
def test_every_state_has_a_rank(state: TaskState) -> None:
    """The tables know every state, and terminal means final."""
    assert lifecycle.is_terminal(state) == (RANK[state] == 3)
    assert lifecycle.is_presumed(state, Source.RINGBACK) == (state in TERMINAL)
    assert not lifecycle.is_presumed(state, Source.POLL)


@given(st.lists(FACTS, max_size=12))
def test_states_never_move_back(facts: list[tuple[TaskState, Source]]) -> None:
    """No fact lowers a rank, a final word of the provider is never replaced, and only final states have an author."""
    state, settled_by = TaskState.PENDING, None
    for status, source in facts:
        step = advance(state, settled_by, status, source)
        assert RANK[step.state] >= RANK[state]
        assert (step.settled_by is not None) == (step.state in TERMINAL)
        if state in TERMINAL and settled_by is not Source.RINGBACK:
            assert (step.state, step.settled_by) == (state, settled_by)
        state, settled_by = step.state, step.settled_by


@given(st.lists(FACTS, max_size=12))
def test_first_final_word_of_the_provider_wins(facts: list[tuple[TaskState, Source]]) -> None:
    """Where the provider has said a final word, its first one stands, whoever presumed what before or after."""
    words = [fact for fact in facts if fact[0] in TERMINAL and fact[1] is not Source.RINGBACK]
    if words:
        assert follow(facts) == words[0]


@pytest.mark.parametrize("final", sorted(TERMINAL))
def test_order_does_not_matter_with_one_final_word(final: TaskState) -> None:
    """Steps, a presumption and one final word lead to one state in any order."""
    callback = Source.CALLBACK
    facts = [(TaskState.SUBMITTED, callback), (TaskState.PROCESSING, callback), (final, callback)]
    presumed = (TaskState.EXPIRED, Source.RINGBACK)
    assert {follow(order) for order in permutations([*facts, presumed])} == {(final, callback)}
    assert {follow(order) for order in permutations(facts[:2])} == {(TaskState.PROCESSING, None)}


@pytest.mark.parametrize("source", PROVIDER)
def test_standing_of_each_kind_of_fact(source: Source) -> None:
    """A fact is accepted, late or contradicted by what stood before it."""
    ours, done, failed = Source.RINGBACK, TaskState.COMPLETED, TaskState.FAILED
    assert advance(TaskState.PENDING, None, done, source).standing is Standing.ACCEPTED
    assert advance(done, source, TaskState.PROCESSING, source).standing is Standing.LATE
    assert advance(done, source, failed, source).standing is Standing.CONTRADICTED
    assert advance(done, source, done, source).standing is Standing.ACCEPTED
    assert advance(done, source, TaskState.EXPIRED, ours).standing is Standing.LATE
    assert advance(TaskState.EXPIRED, ours, failed, ours).standing is Standing.LATE
    assert advance(TaskState.EXPIRED, ours, TaskState.PROCESSING, source).standing is Standing.LATE
    assert advance(TaskState.EXPIRED, ours, done, source) == lifecycle.Advance(
        state=done, settled_by=source, standing=Standing.ACCEPTED
    )


AFTER = st.none() | st.timedeltas(timedelta(0), timedelta(days=30))
FREE = (Outcome.RELEASED, Outcome.SNOOZED)


@given(st.sampled_from(Outcome), st.integers(1, 30), st.floats(0, 1, exclude_max=True), AFTER, st.integers(0, 3))
def test_settlement_follows_from_outcome_and_count(
    outcome: Outcome, attempts: int, chance: float, after: timedelta | None, lapses: int
) -> None:
    """Success, a discard and the last failure settle; all else is due again, and some of it is free."""
    policy = Policy(attempts=11)
    what = settle(attempts, outcome, policy, NOW, chance, after=after, lapses=lapses)
    free = outcome in FREE or (outcome is Outcome.LAPSED and not lapses)
    assert what.counted == (not free)
    assert (what.due_at is None) == (what.state is not DeliveryState.PENDING)
    if outcome is Outcome.SUCCEEDED:
        assert what.state is DeliveryState.SUCCEEDED
    elif outcome is Outcome.DISCARDED or (attempts >= 11 and not free):
        assert what.state is DeliveryState.DISCARDED
    elif outcome in (Outcome.LAPSED, Outcome.RELEASED):
        assert what.due_at == NOW
    elif after is not None or outcome is Outcome.SNOOZED:
        assert what.due_at == NOW + (after or timedelta(0))
    else:
        assert what.due_at == NOW + policy.delay(attempts, chance) > NOW + timedelta(seconds=8)


def test_what_lapsed_once_runs_alone() -> None:
    """From the first lapse on nothing runs beside it."""
    assert [lifecycle.runs_alone(lapses) for lapses in (0, 1, 2)] == [False, True, True]

"""What Prometheus sees, and who may look."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.web import create_app
from receiver.web.spent import Spendings, spent_metrics
from receiver.web.stored import stored_metrics
from ringback.ledger import Budget, Pattern, Process, Registration, ResultCounts, ResultRow, Spent
from ringback.model import Arrival, Callback, Kind, Reading, Result, Source, Task, TaskState, Trust, new_id
from ringback.providers.signatures import callback_mac
from tests.ledger.builders import claims, fan_out

from .conftest import SECRET, TASK, MakeSettings, Receiver, Start, body_of, client_of, path_of, submitted


def samples_of(text: str) -> dict[tuple[str, ...], float]:
    """Parse an exposition: name and label values to value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_counts_of_process_and_ledger(receiver: Receiver) -> None:
    """Callbacks by verdict, rejections by reason, the latency histogram, and the ledger's states."""
    await submitted(receiver.ledger)
    for _ in range(3):
        await receiver.push()
    await receiver.client.post(f"/callbacks/qingbo/{TASK}.x")
    response = await receiver.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = samples_of(response.text)
    assert samples["ringback_callbacks_total", "qingbo", "new"] == 1
    assert samples["ringback_callbacks_total", "qingbo", "duplicate"] == 2
    assert samples["ringback_rejections_total", "qingbo", "token"] == 1
    assert samples["ringback_intake_seconds_count",] == 3
    assert samples["ringback_intake_seconds_bucket", "+Inf"] == 3
    assert samples["ringback_inflight_bytes",] == 0
    assert samples["ringback_ledger_up",] == 1
    assert samples["ringback_tasks", "completed"] == 1
    assert samples["ringback_deliveries", "pending"] == 0
    assert samples["ringback_waiting_events",] == 1
    assert samples["ringback_oldest_due_seconds",] == 0
    assert callback_mac(SECRET, "qingbo", TASK).decode() not in response.text


async def test_queues_of_handlers(receiver: Receiver) -> None:
    """Depth, lag and discarded deliveries of each handler; one without anything to do has zeros."""
    now = datetime.now(UTC)
    process = Process(id="w", role="worker", host="here", pid=1, started_at=now)
    handlers = {"app.idle": Registration(patterns=[]), "app.store": Registration(patterns=[Pattern()])}
    await receiver.ledger.beat(process, now, now, handlers)
    for number in range(3):
        await submitted(receiver.ledger, f"task_{number}", f"p-{number}")
        await receiver.push(body_of(provider_id=f"p-{number}"), f"task_{number}")
    await fan_out(receiver.ledger, now - timedelta(hours=1), 10)
    await claims(receiver.ledger, process, {"app.store": 1}, now, 1)
    samples = samples_of((await receiver.get("/metrics")).text)
    assert samples["ringback_queue_depth", "app.store", "pending"] == 2
    assert samples["ringback_queue_depth", "app.store", "running"] == 1
    assert samples["ringback_queue_oldest_due_seconds", "app.store"] == pytest.approx(3600, abs=60)
    assert samples["ringback_oldest_due_seconds",] == samples["ringback_queue_oldest_due_seconds", "app.store"]
    assert samples["ringback_queue_depth", "app.idle", "pending"] == 0
    assert samples["ringback_queue_oldest_due_seconds", "app.idle"] == 0
    assert samples["ringback_queue_discarded", "app.store"] == 0


async def test_missing_pushes_are_counted_and_readiness_stays_green(receiver: Receiver) -> None:
    """By what became of them, with the share to alert on; silence of a provider is no fault of this process."""
    now = datetime.now(UTC)
    for number, source in enumerate((Source.CALLBACK, Source.POLL, Source.POLL)):
        name = f"task_{number}"
        await submitted(receiver.ledger, name, f"p-{number}", url_key="key")
        reading = Reading(status=TaskState.COMPLETED, provider_id=f"p-{number}")
        arrival = Arrival(
            kind=Kind.FACT, provider="qingbo", source=source, trust=Trust.TOKEN, task_id=name,
            callback=Callback(body=b"{}", received_at=now), reading=reading,
        )  # fmt: skip
        await receiver.ledger.record(arrival)
    samples = samples_of((await receiver.get("/metrics")).text)
    outcomes = {outcome: samples["ringback_pushes", outcome, "qingbo"] for outcome in ("on_time", "late", "missing")}
    assert outcomes == {"on_time": 1, "late": 0, "missing": 2}
    assert samples["ringback_pushes_recovered", "qingbo"] == 2
    assert samples["ringback_pushes_missing_share", "qingbo"] == pytest.approx(2 / 3)
    assert (await receiver.client.get("/readyz")).status_code == 200


async def test_ledger_is_counted_once_in_a_while(receiver: Receiver) -> None:
    """The counts of the process are fresh, those of the ledger a few seconds old."""
    await receiver.get("/metrics")
    await receiver.push()
    samples = samples_of((await receiver.get("/metrics")).text)
    assert samples["ringback_callbacks_total", "qingbo", "new"] == 1
    assert samples["ringback_tasks", "completed"] == 0


async def test_metrics_without_a_ledger(make_settings: MakeSettings, tmp_path: object) -> None:
    """While the ledger cannot be opened its part is missing, and `ringback_ledger_up` says so."""
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/none/ringback.db", metrics_public=True)
    async with client_of(create_app(settings)) as client:
        await client.post(path_of(), content=b"{}")
        samples = samples_of((await client.get("/metrics")).text)
    assert samples["ringback_ledger_up",] == 0
    assert samples["ringback_rejections_total", "qingbo", "unavailable"] == 1
    assert ("ringback_tasks", "completed") not in samples


@pytest.mark.parametrize("path", ["/metrics", "/api/tasks", "/api/nothing", "/api/"])
async def test_admin_token_is_needed(receiver: Receiver, path: str) -> None:
    """Without the right bearer token: 401, also for paths that do not exist."""
    wrong = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic the-admin-token", "the-admin-token", "Bearer caf\xe9"]
    for value in wrong:
        response = await receiver.client.get(path, headers=[(b"authorization", value.encode("latin-1"))])
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
    right = await receiver.client.get(path, headers={"authorization": "bEARER  the-admin-token "})
    assert right.status_code == (200 if path in ("/metrics", "/api/tasks") else 404)


@pytest.mark.parametrize("path", ["/metrics", "/api/tasks", "/api/nothing"])
async def test_nothing_is_there_without_a_token(start: Start, path: str) -> None:
    """While no admin token is set neither metrics nor the API exist."""
    async with start(admin_token=None) as receiver:
        assert (await receiver.get(path)).status_code == 404


async def test_public_metrics_need_no_token(start: Start) -> None:
    """With RINGBACK_METRICS_PUBLIC everybody may scrape, and the API stays closed."""
    async with start(metrics_public=True, admin_token=None) as receiver:
        assert (await receiver.get("/metrics", token=None)).status_code == 200
        assert (await receiver.get("/api/tasks")).status_code == 404


async def test_what_is_spent(receiver: Receiver) -> None:
    """Of this day and month, in micro-dollars; budgets only where they are set."""
    now = datetime.now(UTC)
    await receiver.ledger.add_task(
        Task(id=new_id("task", now), provider="qingbo", created_at=now, price_microdollars=44_625)
    )
    samples = samples_of((await receiver.get("/metrics")).text)
    assert samples["ringback_spent_microdollars", "day"] == samples["ringback_spent_microdollars", "month"] == 44_625
    assert not any(name == "ringback_budget_microdollars" for name, *_ in samples)
    _, budgets = spent_metrics(Spent(), Budget(daily=5_000_000))
    assert [(sample.labels["period"], sample.value) for sample in budgets.samples] == [("day", 5_000_000)]


async def test_the_month_is_added_up_whole_for_a_hundredth_of_the_time(receiver: Receiver) -> None:
    """It took a second: for a hundred seconds only what is new is added; then what came out otherwise is seen, too."""
    now, moments = datetime.now(UTC), iter([0.0, 1.0, 100.9, 101.1, 102.1])
    spendings = Spendings(lambda: next(moments))
    sold = Task(id=new_id("task", now), provider="qingbo", created_at=now, price_microdollars=5, url_key="f")
    await receiver.ledger.add_task(sold)
    assert (await spendings.ask(receiver.ledger)).month == 5
    failed = Reading(status=TaskState.FAILED, provider_id="p-1", charged_microdollars=0)
    await receiver.ledger.record(
        Arrival(
            kind=Kind.FACT, provider="qingbo", source=Source.CALLBACK, trust=Trust.TOKEN, task_id=sold.id,
            callback=Callback(body=b"", received_at=now), reading=failed,
        )
    )  # fmt: skip
    await receiver.ledger.add_task(
        Task(id=new_id("task", now), provider="qingbo", created_at=now, price_microdollars=7)
    )
    assert (await spendings.ask(receiver.ledger)).month == 12
    assert (await spendings.ask(receiver.ledger)).month == 7


async def test_results_and_their_alarm(receiver: Receiver) -> None:
    """Zeros where none are stored; else what is stored, what waits, and how long the first has that may be lost."""
    samples = samples_of((await receiver.get("/metrics")).text)
    assert samples["ringback_results", "waiting"] == samples["ringback_results_expiring",] == 0
    assert ("ringback_results_next_expiry_seconds",) not in samples
    now = datetime.now(UTC)
    row = ResultRow(
        seq=1,
        event_id="evt_1",
        task_id="task_1",
        provider="qingbo",
        position=0,
        result=Result(kind="video", url="https://cdn.example/secret"),
        expires_at=now + timedelta(minutes=5),
    )
    counts = ResultCounts(stored=3, stored_bytes=30, waiting=2, given_up=1, expiring=(row,), lost=4)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in stored_metrics(counts, now)
        for sample in metric.samples
    }
    assert found == {
        ("ringback_results", "stored"): 3,
        ("ringback_results", "waiting"): 2,
        ("ringback_results", "given_up"): 1,
        ("ringback_results_stored_bytes",): 30,
        ("ringback_results_expiring",): 1,
        ("ringback_results_lost",): 4,
        ("ringback_results_next_expiry_seconds",): 300,
    }

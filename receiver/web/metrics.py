"""`GET /metrics`: counts of all processes at this socket and states of the ledger, as Prometheus reads them.

The counts are plain integers kept elsewhere; prometheus_client (55 ms to import) only writes them out, and only comes
when somebody asks. No label holds a secret, a token or anything that a stranger chose.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from receiver.web.access import check_admin
from receiver.web.fresh import Fresh
from receiver.web.pushed import PUSHES_WINDOW, pushed_metrics
from receiver.web.spent import Spendings, spent_metrics
from receiver.web.state import State
from receiver.web.stored import stored_metrics
from receiver.web.tally import cumulative
from ringback.errors import LedgerError
from ringback.ledger import (
    CountResults,
    Pushed,
    Pushes,
    Queue,
    ResultCounts,
    Spent,
    Summary,
    budget_of,
)
from ringback.model import DeliveryState, TaskState

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

SUMMARY_SECONDS = 5.0  # counting is not free


class Metrics:
    """The endpoint. Each application has its own registry."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._summary = Fresh(SUMMARY_SECONDS, self._summarise)
        self._pushes = Fresh(SUMMARY_SECONDS, self._listen)
        self._results = Fresh(SUMMARY_SECONDS, self._count_results)
        self._spent = Fresh(SUMMARY_SECONDS, self._add_up)
        self._spendings = Spendings()

    async def show(self, request: Request) -> Response:
        """Answer with the text format; the ledger's part is left out while the ledger cannot be read."""
        settings = self._state.settings
        if not settings.metrics_public:
            check_admin(request.scope, settings.admin_token)
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

        registry = CollectorRegistry()
        summary, pushes = await self._summary.get(), await self._pushes.get()
        results, spent = await self._results.get(), await self._spent.get()
        registry.register(_Snapshot(self._state, summary, pushes, results, spent, datetime.now(UTC)))
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _summarise(self) -> Summary | None:
        try:
            ledger, _ = await self._state.open()
            return await ledger.summary(datetime.now(UTC))
        except LedgerError:
            return None

    async def _listen(self) -> Sequence[Pushed]:
        try:
            ledger, _ = await self._state.open()
            return await ledger.report(Pushes(since=datetime.now(UTC) - PUSHES_WINDOW))
        except LedgerError:
            return ()

    async def _count_results(self) -> ResultCounts | None:
        try:
            ledger, _ = await self._state.open()
            return await ledger.report(CountResults(now=datetime.now(UTC)))
        except LedgerError:
            return None

    async def _add_up(self) -> Spent | None:
        try:
            ledger, _ = await self._state.open()
            return await self._spendings.ask(ledger)
        except LedgerError:
            return None


class _Snapshot:
    """What one scrape shows."""

    def __init__(
        self,
        state: State,
        summary: Summary | None,
        pushes: Sequence[Pushed],
        results: ResultCounts | None,
        spent: Spent | None,
        now: datetime,
    ) -> None:
        self._state = state
        self._summary = summary
        self._pushes = pushes
        self._results = results
        self._spent = spent
        self._now = now

    def collect(self) -> "Iterator[Metric]":
        """Give every metric (called by prometheus_client)."""
        yield from self._own()
        if self._summary is not None:
            yield from self._ledgers(self._summary)
        yield from pushed_metrics(self._pushes)
        if self._results is not None:
            yield from stored_metrics(self._results, self._now)
        if self._spent is not None:
            yield from spent_metrics(self._spent, budget_of(self._state.settings))

    def _own(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        counts = self._state.all_counts()
        callbacks = CounterMetricFamily(
            "ringback_callbacks", "Callbacks answered with 200.", labels=("provider", "verdict")
        )
        for labels, count in counts.verdicts.items():
            callbacks.add_metric(labels, count)
        yield callbacks
        rejections = CounterMetricFamily("ringback_rejections", "Callbacks turned away.", labels=("provider", "reason"))
        for labels, count in counts.rejections.items():
            rejections.add_metric(labels, count)
        yield rejections
        latency = HistogramMetricFamily("ringback_intake_seconds", "From a callback's headers to its commit.")
        latency.add_metric((), cumulative(counts.latencies), counts.latency_sum)
        yield latency
        yield GaugeMetricFamily("ringback_inflight_bytes", "Callback bodies in memory.", counts.inflight_bytes)
        up = 0 if self._summary is None else 1
        yield GaugeMetricFamily("ringback_ledger_up", "Whether the ledger could be read.", up)

    def _ledgers(self, summary: Summary) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        about = "An estimate where there are many."
        tasks = GaugeMetricFamily("ringback_tasks", f"Tasks in the ledger. {about}", labels=("state",))
        for state in TaskState:
            tasks.add_metric((state.value,), summary.tasks.get(state, 0))
        yield tasks
        deliveries = GaugeMetricFamily("ringback_deliveries", f"Deliveries in the ledger. {about}", labels=("state",))
        for step in DeliveryState:
            deliveries.add_metric((step.value,), summary.deliveries.get(step, 0))
        yield deliveries
        yield GaugeMetricFamily("ringback_waiting_events", "Events not fanned out yet.", summary.waiting_events)
        yield from self._queues(summary)

    def _queues(self, summary: Summary) -> "Iterator[Metric]":
        """A handler without anything to do has zeros, so that an alert can tell it from one that is not there."""
        from prometheus_client.core import GaugeMetricFamily

        queues = {name: summary.queues.get(name, Queue()) for name in sorted({*summary.handlers, *summary.queues})}
        lags = {name: queue.lag_seconds(self._now) for name, queue in queues.items()}
        depths = GaugeMetricFamily("ringback_queue_depth", "Deliveries that wait or run.", labels=("handler", "state"))
        lag = GaugeMetricFamily(
            "ringback_queue_oldest_due_seconds", "How long the oldest due delivery has waited.", labels=("handler",)
        )
        discarded = GaugeMetricFamily(
            "ringback_queue_discarded", "Deliveries whose latest run was discarded.", labels=("handler",)
        )
        for name, queue in queues.items():
            depths.add_metric((name, "pending"), queue.pending)
            depths.add_metric((name, "running"), queue.running)
            lag.add_metric((name,), lags[name])
            discarded.add_metric((name,), queue.discarded)
        yield from (depths, lag, discarded)
        oldest = max(lags.values(), default=0.0)
        yield GaugeMetricFamily("ringback_oldest_due_seconds", "How long the oldest due delivery has waited.", oldest)

"""What follows from the rounds of an intake: a receiver's figures, how they compare, and whether the goals are reached.

Ratios are of the same round, and a ratio's median is that of the rounds' ratios. Runs nothing.
"""

from collections.abc import Callable, Mapping, Sequence

from bench.figures import Figure, ratio
from bench.loading import Result
from bench.pushes import Auth
from bench.receivers import BARE_ASGI, NAIVE, WEBHOOK, Receiver, bare, ours

GOALS_AT = 64  # connections
OVER_BARE = {Auth.TOKEN: 1.0, Auth.SIGNED: 0.9}
ON_POSTGRES, ON_POSTGRES_AT = 0.6, (64, 256)  # that goal names no number of connections: where lists are, and are large
OVER_NAIVE, OVER_WEBHOOK = 3.0, 1.5
P99_MS = 15.0
CPU_OVER_PARTS = 1.2
COLUMNS = ("requests", "p50", "p99", "CPU", "over bare Starlette")
Rounds = Mapping[str, Sequence[Result]]  # by the receiver's name


def figures(receivers: Sequence[Receiver], rounds: Rounds, connections: int) -> list[Figure]:
    """Give the figures of all of them at so many connections, and what they come to beside each other."""
    found = [figure for receiver in receivers for figure in _own(receiver, rounds[receiver.name], connections)]
    rates = {figure.subject: figure for figure in found if figure.name == "requests"}
    return [*found, *_over_bare(receivers, rates, connections), *_over_peers(rates, connections)]


def _own(receiver: Receiver, results: Sequence[Result], connections: int) -> list[Figure]:
    def figure(name: str, unit: str, value: Callable[[Result], float], at_most: float | None = None) -> Figure:
        values = tuple(value(result) for result in results)
        setting = f"{connections} connection{'s' if connections > 1 else ''}"
        return Figure(name=name, unit=unit, values=values, subject=receiver.name, setting=setting, at_most=at_most)

    return [
        figure("requests", "/s", lambda result: result.per_second),
        figure("p50", "ms", lambda result: result.p50_ms),
        figure("p99", "ms", lambda result: result.p99_ms, P99_MS if _is_judged(receiver, connections) else None),
        figure("CPU", "µs", lambda result: result.cpu_microseconds),
    ]


def _is_judged(receiver: Receiver, connections: int) -> bool:
    """Tell whether goals were set for it: for Ringback on SQLite."""
    return connections == GOALS_AT and receiver.engine == "sqlite"


def _over_bare(receivers: Sequence[Receiver], rates: Mapping[str, Figure], connections: int) -> list[Figure]:
    """Compare each with the bare route that was sent the same; whoever was sent something else, with the usual one."""
    found = []
    for receiver in receivers:
        yardstick = rates.get(bare(receiver.auth if receiver.auth in OVER_BARE else Auth.TOKEN).name)
        if yardstick is not None and yardstick.subject != receiver.name:
            goal = _goal(receiver, connections)
            found.append(ratio("over bare Starlette", rates[receiver.name], yardstick, at_least=goal))
    return found


def _goal(receiver: Receiver, connections: int) -> float | None:
    """Give what a receiver was to make of the bare route's rate."""
    if _is_judged(receiver, connections):
        return OVER_BARE[receiver.auth]
    on_postgres = receiver.engine == "postgres" and receiver.auth is Auth.TOKEN
    return ON_POSTGRES if on_postgres and connections in ON_POSTGRES_AT else None


def _over_peers(rates: Mapping[str, Figure], connections: int) -> list[Figure]:
    mine = rates.get(ours(Auth.TOKEN, "sqlite").name)
    goals = {NAIVE: OVER_NAIVE, WEBHOOK: OVER_WEBHOOK}
    return [
        ratio(f"over {peer}", mine, rates[peer], at_least=goal if connections == GOALS_AT else None)
        for peer, goal in goals.items()
        if mine is not None and peer in rates
    ]


def over_parts(rounds: Rounds, row: Figure, verifications: Mapping[Auth, Figure]) -> list[Figure]:
    """Hold what Ringback spends on a request against bare ASGI, verification and one committed row, each alone."""
    found = []
    for auth, verification in verifications.items():
        mine, bare_asgi = rounds[ours(auth, "sqlite").name], rounds[BARE_ASGI]
        parts = zip(bare_asgi, verification.values, row.values, strict=True)
        sums = [result.cpu_microseconds + verifying + storing for result, verifying, storing in parts]
        values = tuple(result.cpu_microseconds / least for result, least in zip(mine, sums, strict=True))
        found.append(
            Figure(
                name="CPU over bare ASGI + verification + one committed row",
                unit="",
                values=values,
                subject=ours(auth, "sqlite").name,
                setting=f"{GOALS_AT} connections",
                at_most=CPU_OVER_PARTS,
            )
        )
    return found

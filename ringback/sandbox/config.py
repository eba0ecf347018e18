"""Every knob of the sandbox, in one frozen record; checked when it is made, never changed afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from ringback.sandbox.faults import check_rates


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """How the stand-in provider behaves; every default suits a developer's machine."""

    host: str = "127.0.0.1"
    port: int = 8010
    """0 takes a free one; `serve` reports which."""
    qingbo_api_key: str = "sk-sandbox"
    reapi_api_key: str = "rk_live_sandbox"
    balance_usd: Decimal | None = None
    """What each account may spend before 402; None is without limit."""
    reapi_usd_per_second: Decimal = Decimal("0.008")
    """Invented: the page (shared seed 000…) gives the formula, not the rate."""

    seed: int = 0
    """The same seed and order of submissions give the same delays and faults; ids hold the time and differ."""
    delay_seconds: tuple[float, float] = (2.0, 6.0)
    """From acceptance to the terminal state, shortest and longest."""
    queued_share: float = 0.4
    """The part of that delay a qingbo task waits in `queued`, where it may be cancelled."""
    max_tasks: int = 100_000
    """A submission beyond this is answered 429; it bounds memory and background work."""

    allow_push_to: frozenset[str] = frozenset()
    """Host names or addresses, besides loopback, that pushes may go to."""
    push_timeout_seconds: float = 5.0
    push_retry_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    max_pushes_in_flight: int = 64

    faults: Mapping[str, float] = field(default_factory=dict)
    """Rates by fault name, such as `{"lost_push": 0.05}`."""
    submit_5xx_attempts: int = 1
    hang_seconds: float = 30.0
    slow_push_seconds: float = 3.0
    late_push_seconds: float = 10.0
    duplicate_pushes: int = 5
    oversized_push_bytes: int = 1_100_000

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        check_rates(self.faults)
        shortest, longest = self.delay_seconds
        if not 0 <= shortest <= longest:
            raise ValueError(f"delay_seconds must be (shortest, longest), both from 0, not {self.delay_seconds}")
        if not 0 <= self.queued_share <= 1:
            raise ValueError(f"queued_share must lie between 0 and 1, not {self.queued_share}")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must lie between 0 and 65535, not {self.port}")
        for name in ("max_tasks", "max_pushes_in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("qingbo_api_key", "reapi_api_key"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")

"""The primary is lost under load, its standby takes over: what got 200 is there, and every process goes on."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.cluster import Cluster, url_of
from tests.acceptance.network import Network
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.pushes import get
from tests.acceptance.standing import Standing, make_tables, stand

pytestmark = pytest.mark.slow

SENDERS = 4


@contextlib.contextmanager
def replicated() -> Iterator[tuple[Cluster, Cluster]]:
    """Give a primary and its standby, without whose word the primary acknowledges nothing."""
    with Cluster() as primary:
        make_tables(primary)
        with Cluster(primary) as standby:
            primary.set(synchronous_standby_names="*")
            states = "SELECT sync_state FROM pg_stat_replication"
            wait_until("replicated", lambda: primary.rows(states) == [("sync",)])
            yield primary, standby


@contextlib.contextmanager
def load(place: Standing) -> Iterator[None]:
    """Push all the time."""
    over = threading.Event()

    def send(number: int) -> None:
        for count in range(1_000_000):
            if over.is_set():
                return
            with contextlib.suppress(TimeoutError):
                place.push(f"task_load_{number}_{count}")

    with ThreadPoolExecutor(SENDERS) as pool:
        sending = [pool.submit(send, number) for number in range(SENDERS)]
        try:
            yield
        finally:
            over.set()
        for sender in sending:
            sender.result()


@pytest.mark.parametrize("way", ["several hosts", "target_session_attrs", "an address that moves"])
def test_the_primary_is_lost(site: Site, way: str) -> None:
    """On a standby nothing is taken and readiness is red; once it is promoted all goes on, with all that got 200."""
    with replicated() as (primary, standby), Network(primary.port) as network:
        urls = {
            "several hosts": url_of(primary, standby),
            "target_session_attrs": url_of(standby, primary, target_session_attrs="read-write"),
            "an address that moves": network.url,
        }
        site.set(database_url=urls[way])
        place = stand(site, primary, network)
        with load(place):
            wait_until("some taken", lambda: len(place.acknowledged) > 50)
            primary.stop("immediate")
            network.target = standby.port
        tasks = place.is_refusing()
        wait_until("told", lambda: get(site.port, "/readyz").status == 503 and "read-only" in place.receiver.log)
        standby.promote()
        place.cluster = standby
        place.heals(tasks)
        place.close()

"""Which headers are kept with a callback."""

from receiver.web.headers import MOST_BYTES, MOST_HEADERS, kept_headers


def test_only_known_names_are_kept() -> None:
    """What may hold a secret is dropped, whatever it is called."""
    headers = [(b"authorization", b"Bearer x"), (b"webhook-id", b"msg_1"), (b"x-acme", b"1"), (b"cookie", b"a=b")]
    assert kept_headers(headers) == (("webhook-id", "msg_1"),)


def test_what_the_provider_asks_for_is_kept_under_any_name() -> None:
    """A provider's own event id header is kept though nobody else knows its name."""
    assert kept_headers([(b"x-acme", b"1")], {b"x-acme"}) == (("x-acme", "1"),)


def test_a_crowd_of_headers_cannot_push_the_event_id_out() -> None:
    """What the provider asks for comes first when there are too many."""
    crowd = [(b"webhook-%d" % number, b"x") for number in range(MOST_HEADERS + 5)]
    kept = kept_headers([*crowd, (b"webhook-id", b"msg_1")], {b"webhook-id"})
    assert len(kept) == MOST_HEADERS
    assert kept[0] == ("webhook-id", "msg_1")


def test_long_values_are_cut() -> None:
    """A value is cut to size, and any byte has a place in the text."""
    ((_, value),) = kept_headers([(b"user-agent", b"\xff" * (MOST_BYTES + 1))])
    assert value == "\xff" * MOST_BYTES


def test_what_holds_a_secret_is_never_kept() -> None:
    """A name that users choose for a fixed secret may look like one of those that are kept."""
    headers = [(b"webhook-secret", b"s"), (b"webhook-id", b"msg_1")]
    assert kept_headers(headers, {b"webhook-secret"}, {b"webhook-secret"}) == (("webhook-id", "msg_1"),)

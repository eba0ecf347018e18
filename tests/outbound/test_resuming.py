"""Fetching results: what ends early, goes on, is too large or takes too long. Real sockets on this machine."""

import asyncio
import hashlib
import tracemalloc
from typing import Any

import pytest

from ringback.errors import DownloadExpired, DownloadInterrupted, DownloadRefused
from ringback.outbound.downloads import Part
from tests.outbound.site import VIDEO, Asked, Items, fetch, fetcher, head, serving, whole

LENGTH = len(VIDEO)
MIB = 1 << 20


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 416, 451])
async def test_a_url_that_gives_nothing_more_is_expired(status: int) -> None:
    """These say so of the URL: a fresh one may help."""
    async with serving(whole(b"<Error>", status)) as site:
        with pytest.raises(DownloadExpired, match=f"media.local: answered {status}; a fresh URL may help") as caught:
            await fetch(fetcher(), f"http://media.local:{site.port}/?sesame")
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("status", "after", "seconds"),
    [(429, "7", 7.0), (503, "30", 30.0), (500, "soon", None), (408, None, None), (202, None, None), (302, None, None)],
)
async def test_trouble_of_the_moment_is_tried_again(status: int, after: str | None, seconds: float | None) -> None:
    """These say nothing of the URL; how long to wait is handed on where it is said."""
    headers = {"retry_after": after} if after else {}
    async with serving(whole(b"", status, **headers)) as site:
        with pytest.raises(DownloadInterrupted, match=f"media.local: answered {status}") as caught:
            await fetch(fetcher(), f"http://media.local:{site.port}/")
    assert caught.value.retry_after_seconds == seconds


@pytest.mark.parametrize(
    "answer",
    [
        [head(200, {"content-length": 10_240}) + VIDEO[:5000]],
        [head(200, {"transfer-encoding": "chunked"}) + b"5\r\nhello\r\n"],
        [b"not http\r\n\r\n"],
        [],
        [head(206, {"content-range": "bytes 0-4/5", "content-length": 5}) + b"hello"],  # nobody asked for a part
    ],
)
async def test_a_broken_answer_is_tried_again(answer: list[bytes]) -> None:
    """An end before the end is never taken for one."""
    async with serving(answer) as site:
        with pytest.raises(DownloadInterrupted):
            await fetch(fetcher(), f"http://media.local:{site.port}/")


async def test_a_broken_download_goes_on_where_it_stopped() -> None:
    """The rest is asked for by its range, and only if it still is the rest of the same; nothing is fetched twice."""
    places = [4000, 9000, LENGTH]

    def reply(asked: Asked) -> Items:
        start, end = int(asked.headers.get("range", "bytes=0-")[6:-1]), places[len(site.asked) - 1]
        there: dict[str, str | int] = {"etag": '"v1"', "content-length": LENGTH - start}
        more = {"content-range": f"bytes {start}-{LENGTH - 1}/{LENGTH}"} if start else {}
        return [head(206 if start else 200, {**there, **more}), VIDEO[start:end]]

    body, part, tries = bytearray(), None, 0
    async with serving(reply) as site, fetcher() as source:
        while len(body) < LENGTH and tries < 5:
            tries += 1
            try:
                async with source.open(f"http://media.local:{site.port}/", part=part) as download:
                    assert (download.start, download.length) == (len(body), LENGTH)
                    async for chunk in download:
                        body += chunk
            except DownloadInterrupted:
                part = download.part
    assert (bytes(body), tries) == (VIDEO, 3)
    asked = [(each.headers.get("range"), each.headers.get("if-range")) for each in site.asked]
    assert asked == [(None, None), ("bytes=4000-", '"v1"'), ("bytes=9000-", '"v1"')]
    assert part == Part(size=9000, validator='"v1"', length=LENGTH)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {}),  # If-Range told it that the result has changed, or it knows no ranges
        (206, {"content-range": f"bytes 10-{LENGTH - 1}/{LENGTH}"}),
        (206, {"content-range": f"bytes 100-{LENGTH - 1}/{LENGTH + 1}"}),
        (206, {"content-range": f"bytes 100-{LENGTH - 1}/{LENGTH}", "etag": '"v2"'}),
        (206, {"content-range": f"bytes 100-{LENGTH - 1}/{LENGTH}", "etag": 'W/"v1"'}),
        (206, {"content-range": "lines 1-2/3"}),
        (206, {"content-range": f"bytes */{LENGTH}"}),
        (206, {"content-type": "multipart/byteranges; boundary=x"}),
        (416, {"content-range": "bytes */99"}),
        (416, {"content-range": f"bytes */{LENGTH}"}),
        (416, {"content-range": "bytes */*"}),
        (416, {}),
    ],
)
async def test_what_is_no_rest_of_the_part_is_fetched_anew(status: int, headers: dict[str, str]) -> None:
    """Two versions are never put together: whatever is not surely the rest means the whole, from its beginning."""

    def reply(asked: Asked) -> Items:
        return whole(VIDEO, status if "range" in asked.headers else 200, **headers)

    part = Part(size=100, validator='"v1"', length=LENGTH)
    async with serving(reply) as site:
        download, body = await fetch(fetcher(), f"http://media.local:{site.port}/", part)
    assert (download.start, body) == (0, VIDEO)
    assert ["range" in asked.headers for asked in site.asked] == ([True] if status == 200 else [True, False])


@pytest.mark.parametrize("length", [None, LENGTH])
async def test_a_part_may_already_be_all(length: int | None) -> None:
    """Where nothing is behind the part, the download is whole without a byte."""
    part = Part(size=LENGTH, validator='"v1"', length=length)
    async with serving(whole(b"no such range", 416, content_range=f"bytes */{LENGTH}")) as site:
        download, body = await fetch(fetcher(), f"http://media.local:{site.port}/", part)
    assert (download.status, download.start, download.length, body) == (416, LENGTH, LENGTH, b"")


DATE, NEXT, LATER = (f"Sun, 01 Mar 2026 00:00:0{second} GMT" for second in range(3))


@pytest.mark.parametrize(
    ("validator", "headers"),
    [
        (DATE, {"last-modified": DATE}),
        (DATE, {"etag": '"v1"'}),  # a 206 may leave out what it was asked with
        ('"v1"', {"last-modified": DATE}),
        ('"v1"', {}),
    ],
)
@pytest.mark.parametrize("length", [None, LENGTH])
async def test_a_rest_that_says_little_is_taken(validator: str, headers: dict[str, str], length: int | None) -> None:
    """A server that keeps to If-Range need not repeat it, nor know the length: what was known is known on."""
    answer = [head(206, {"content-range": f"bytes 100-{LENGTH - 1}/*", "content-length": LENGTH - 100, **headers})]
    part = Part(size=100, validator=validator, length=length)
    async with serving([*answer, VIDEO[100:]]) as site:
        download, body = await fetch(fetcher(), f"http://media.local:{site.port}/", part)
    assert (download.start, body) == (100, VIDEO[100:])
    assert download.part == Part(size=LENGTH, validator=validator, length=length)


async def test_a_rest_of_another_day_is_not_the_rest() -> None:
    """Where the date was the ground to go on, another date is none."""

    def reply(asked: Asked) -> Items:
        ranged = {"content-range": f"bytes 100-{LENGTH - 1}/{LENGTH}"} if "range" in asked.headers else {}
        return [
            head(206 if ranged else 200, {"content-length": LENGTH, "last-modified": NEXT, "date": LATER, **ranged}),
            VIDEO,
        ]

    async with serving(reply) as site:
        download, body = await fetch(fetcher(), f"http://media.local:{site.port}/", Part(size=100, validator=DATE))
    assert (download.start, download.validator, body) == (0, NEXT, VIDEO)


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"v1"', "last-modified": DATE, "date": NEXT}, '"v1"'),
        ({"etag": 'W/"v1"', "last-modified": DATE, "date": NEXT}, DATE),
        ({"etag": '"\u00fc"', "last-modified": DATE, "date": NEXT}, DATE),
        ({"etag": "v1", "last-modified": DATE, "date": NEXT}, DATE),
        ({"etag": f'"{1000 * "x"}"', "last-modified": "x" * 1001}, None),
        ({"last-modified": DATE, "date": DATE}, None),  # another version may come in the same second
        ({"last-modified": DATE}, None),
        ({"last-modified": DATE, "date": "Sun, 01 Mar 2026 00:00:01 -0000"}, None),  # without a zone
        ({"last-modified": "Sun", "date": NEXT}, None),
        ({}, None),
    ],
)
async def test_what_tells_a_version_from_others(headers: dict[str, str], validator: str | None) -> None:
    """A tag that covers each byte, else a date; whatever could not be sent back to ask with is none."""
    async with serving([head(200, {"content-length": LENGTH, **headers}), VIDEO]) as site:
        download, _ = await fetch(fetcher(), f"http://media.local:{site.port}/")
    assert download.validator == validator
    assert download.part == (Part(size=LENGTH, validator=validator, length=LENGTH) if validator else None)


@pytest.mark.parametrize("known", [True, False])
async def test_a_part_of_the_rest_is_not_the_rest(known: bool) -> None:
    """A server may send less than was asked for; then the end is missing, and the next try gets it."""
    answer = whole(VIDEO[100:200], 206, content_range=f"bytes 100-199/{LENGTH}", etag='"v1"')
    part = Part(size=100, validator='"v1"', length=LENGTH if known else None)
    async with (
        serving(answer) as site,
        fetcher() as source,
        source.open(f"http://media.local:{site.port}/", part=part) as download,
    ):
        assert await anext(download) == VIDEO[100:200]
        with pytest.raises(DownloadInterrupted, match=f"200 bytes of {LENGTH} came"):
            await anext(download)
        assert download.part == Part(size=200, validator='"v1"', length=LENGTH)


CHUNKED = {"transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ([head(200, {"content-length": 1001})], 0),
        ([head(200, CHUNKED) + b"3e8\r\n" + VIDEO[:1000] + b"\r\n", b"1\r\nx\r\n0\r\n\r\n"], 1000),
        ([head(200, CHUNKED) + b"7d0\r\n" + VIDEO[:2000] + b"\r\n0\r\n\r\n"], 0),
        ([head(206, {"content-range": "bytes 10-1000/1001", "content-length": 991})], 0),
        ([head(206, {"content-range": "bytes 10-999/*", **CHUNKED}) + b"3e0\r\n" + VIDEO[:992] + b"\r\n0\r\n\r\n"], 0),
    ],
)
async def test_what_is_too_large_is_refused(answer: list[bytes], got: int) -> None:
    """Where the size is announced not a byte is taken, else none beyond the limit; a part counts too."""
    part = Part(size=10, validator='"v1"') if b" 206 " in answer[0] else None
    came = 0
    async with serving(answer) as site, fetcher(results_max_bytes=1000) as source:
        with pytest.raises(DownloadRefused, match="larger than 1000 bytes") as caught:  # noqa: PT012
            async with source.open(f"http://media.local:{site.port}/", part=part) as download:
                async for chunk in download:
                    came += len(chunk)
    assert caught.value.flaw == "size"
    assert came <= got


async def test_exactly_the_limit_is_not_too_large() -> None:
    """The limit itself is allowed."""
    async with serving(whole(VIDEO)) as site:
        assert (await fetch(fetcher(results_max_bytes=LENGTH), f"http://media.local:{site.port}/"))[1] == VIDEO


async def test_more_than_was_announced_is_an_error() -> None:
    """A range that is longer than it says would be put together with a part to something that never was."""
    rest = b"7d0\r\n" + VIDEO[:2000] + b"\r\n0\r\n\r\n"
    async with serving([head(206, {"content-range": "bytes 10-99/100", **CHUNKED}) + rest]) as site:
        with pytest.raises(DownloadInterrupted, match="more than the 100 bytes came"):
            await fetch(fetcher(), f"http://media.local:{site.port}/", Part(size=10, validator='"v1"'))


SLOW: list[bytes | None] = [head(200, {"content-length": 3}), b"a", None]


@pytest.mark.parametrize("answer", [[None], SLOW])
@pytest.mark.parametrize("knob", ["idle_seconds", "results_timeout_seconds"])
async def test_silence_ends(answer: list[bytes | None], knob: str) -> None:
    """Whoever says nothing, or nothing more, is left: after the idle time or the time for the whole."""
    knobs: dict[str, Any] = {knob: 0.1}
    async with serving(answer) as site:
        with pytest.raises(DownloadInterrupted, match=r"^media.local: .* in time$"):
            await fetch(fetcher(**knobs), f"http://media.local:{site.port}/")


async def test_our_own_pause_is_not_cut() -> None:
    """The time for the whole runs on while a chunk is being stored, but ends only the wait for the next one."""
    async with (
        serving(SLOW) as site,
        fetcher(results_timeout_seconds=1.0) as source,
        source.open(f"http://media.local:{site.port}/") as download,
    ):
        assert await anext(download) == b"a"
        await asyncio.sleep(1.1)  # the pause itself: nobody cancels us
        with pytest.raises(DownloadInterrupted, match="not whole in time"):
            await anext(download)


async def test_a_download_can_be_left() -> None:
    """Whoever leaves early closes the connection: the server need not send the rest."""
    left = asyncio.Event()

    def reply(_asked: Asked) -> Items:
        yield head(200, {"content-length": 100 * MIB})
        try:
            for _ in range(100):
                yield bytes(MIB)
        finally:
            left.set()

    async with serving(reply) as site, fetcher() as source:
        async with source.open(f"http://media.local:{site.port}/") as download:
            await anext(download)
        await asyncio.wait_for(left.wait(), 10)
    assert download.position < 100 * MIB


async def test_a_large_result_takes_little_memory() -> None:
    """50 MiB stream through some kilobytes, and arrive as they were sent."""
    block = VIDEO[:256] * 256
    count = 50 * MIB // len(block)
    sent, came = hashlib.sha256(), hashlib.sha256()

    def reply(_asked: Asked) -> Items:
        yield head(200, {"content-length": count * len(block)})
        for _ in range(count):
            sent.update(block)
            yield block

    async with (
        serving(reply) as site,
        fetcher() as source,
        source.open(f"http://media.local:{site.port}/") as download,
    ):
        tracemalloc.start()
        try:
            async for chunk in download:
                came.update(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert download.position == 50 * MIB
    assert came.digest() == sent.digest()
    assert peak < 4 * MIB

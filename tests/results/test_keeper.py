"""Keeping one result: fetched, looked at, stored whole, written down; broken off, expired, wrong."""

import asyncio
import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ringback.errors import (
    DownloadExpired,
    DownloadInterrupted,
    DownloadRefused,
    NotFound,
    StorageError,
    Unreachable,
    Unreadable,
)
from ringback.ledger import Query
from ringback.model import Result, Task
from ringback.results.keeper import Keeper, verify
from ringback.results.spool import Piece
from tests.outbound.site import VIDEO, Asked, Items, head, serving, whole

from .stand import broken, film, fresh, standing, url_of

SHA = hashlib.sha256(VIDEO).hexdigest()


async def test_a_result_is_stored_and_written_down(tmp_path: Path) -> None:
    """It lies under its task and place, whole; the ledger knows its size, hash and type, and events show where."""
    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))
        kept = await stand.keeper().keep(wanted)
        assert stand.stored(kept) == VIDEO
        assert kept.stored_url == f"file://{stand.folder}/{wanted.task.id}/0.mp4"
        assert (kept.size, kept.sha256, kept.content_type) == (len(VIDEO), SHA, "video/mp4")
        (row,) = await stand.rows()
        assert row.kept == kept
        (event,) = await stand.ledger.events(Query(event_id=wanted.event_id))
        assert (event.results[0].stored_url, event.results[0].sha256) == (kept.stored_url, SHA)
        assert await verify(stand.place, kept) is None
        assert stand.left() == []


async def test_a_broken_download_is_gone_on_with_at_once(tmp_path: Path) -> None:
    """What broke off goes on by range, within the same call."""

    def reply(asked: Asked) -> Items:
        return film(asked) if "range" in asked.headers else broken()

    async with standing(tmp_path) as stand, serving(reply) as site:
        kept = await stand.keeper().keep(await stand.completed(url_of(site)))
        assert stand.stored(kept) == VIDEO
        assert [asked.headers.get("range") for asked in site.asked] == [None, "bytes=5000-"]


async def test_a_download_that_never_ends_is_left_for_later(tmp_path: Path) -> None:
    """Past the time that one may take it is not gone on with in this call; what has come stays for the next."""

    def reply(asked: Asked) -> Items:
        return film(asked) if "range" in asked.headers else broken()

    async with standing(tmp_path) as stand, serving(reply) as site:
        wanted = await stand.completed(url_of(site))
        hurried = Keeper(stand.ledger, stand.downloads, stand.place, timeout_seconds=0)
        with pytest.raises(DownloadInterrupted, match="broke off"):
            await hurried.keep(wanted)
        assert len(site.asked) == 1
        assert stand.stored(await hurried.keep(wanted)) == VIDEO
        assert site.asked[1].headers["range"] == "bytes=5000-"


async def test_what_was_cancelled_is_gone_on_with_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that an earlier attempt left is completed by range, also from a URL with a fresh signature."""
    large = VIDEO * 300

    def reply(asked: Asked) -> Items:
        return film(asked, large) if "range" in asked.headers else [*broken(large, 2_500_000), None]

    come, loop, append = asyncio.Event(), asyncio.get_running_loop(), Piece.append

    def appended(piece: Piece, data: bytes) -> None:
        append(piece, data)
        if piece.size >= 2 << 20:
            loop.call_soon_threadsafe(come.set)

    monkeypatch.setattr(Piece, "append", appended)
    async with standing(tmp_path) as stand, serving(reply) as site:
        wanted = await stand.completed(url_of(site))
        first = asyncio.create_task(stand.keeper().keep(wanted))
        part = stand.place.spool / f"{wanted.task.id}.0.part"
        await asyncio.wait_for(come.wait(), 10)
        first.cancel()
        await asyncio.wait({first})
        assert await asyncio.to_thread(lambda: part.stat().st_size) >= 2 << 20
        later = replace(wanted, result=Result(kind="video", url=url_of(site, "/v.mp4?sig=2")))
        kept = await stand.keeper().keep(later)
        assert stand.stored(kept) == large
        assert int(site.asked[-1].headers["range"].removeprefix("bytes=").removesuffix("-")) >= 2 << 20


async def test_a_part_of_another_url_or_from_before_a_restart_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the same path of the same host, and only on a machine that has run since: else it begins anew."""
    boot = tmp_path / "boot"
    boot.write_text("one")
    monkeypatch.setattr("ringback.results.spool.BOOT_ID", boot)
    piece = Piece.open(tmp_path, "task_a.0")
    piece.begin("https://cdn.example/a.mp4?x=1", '"e"', 100, "video/mp4")
    piece.append(b"abc")
    piece.close()
    piece = Piece.open(tmp_path, "task_a.0")
    assert piece.part("https://cdn.example/b.mp4?x=1") is None
    found = piece.part("https://cdn.example/a.mp4?x=2")
    assert found is not None
    assert (found.size, found.validator, found.length) == (3, '"e"', 100)
    piece.close()
    boot.write_text("two")
    piece = Piece.open(tmp_path, "task_a.0")
    assert piece.part("https://cdn.example/a.mp4?x=1") is None
    piece.clear()
    piece.close()
    boot.unlink()
    piece = Piece.open(tmp_path, "task_a.0")
    piece.close()
    assert not (tmp_path / "task_a.0.lock").exists()


async def test_an_expired_url_is_replaced_by_a_fresh_one(tmp_path: Path) -> None:
    """403 or 410 has the provider asked once more; the task's state is left as it is."""

    def reply(asked: Asked) -> Items:
        return film(asked) if asked.target == "/v.mp4?sig=2" else whole(b"no", 403)

    async with standing(tmp_path) as stand, serving(reply) as site:
        wanted = await stand.completed(url_of(site))
        (before,) = await stand.ledger.tasks(Query(task_id=wanted.task.id))
        refresh = fresh(Result(kind="video", url=url_of(site, "/v.mp4?sig=2")))
        kept = await stand.keeper(refresh).keep(wanted)
        assert stand.stored(kept) == VIDEO
        assert await stand.ledger.tasks(Query(task_id=wanted.task.id)) == [before]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (Unreachable("no answer"), DownloadInterrupted),
        (Unreadable("it has failed"), DownloadExpired),
        (None, DownloadExpired),
    ],
)
async def test_where_there_is_no_fresh_url_it_says_why(
    tmp_path: Path, raised: Exception | None, expected: type[Exception]
) -> None:
    """A provider that cannot be asked may be asked later; one that has nothing else has told."""

    async def refresh(_: Task) -> tuple[Result, ...]:
        if raised is not None:
            raise raised
        return (Result(kind="image", url="http://media.local/other.png"),)

    async with standing(tmp_path) as stand, serving(whole(b"gone", 410)) as site:
        wanted = await stand.completed(url_of(site))
        with pytest.raises(expected, match="answered 410"):
            await stand.keeper(refresh).keep(wanted)
        with pytest.raises(DownloadExpired):
            await stand.keeper().keep(wanted)
        assert (await stand.rows())[0].kept is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (whole(b'{"error": "no such file"}', content_type="application/json"), "application/json"),
        (whole(b"<html>sorry</html>", content_type="text/html; charset=utf-8"), "text/html"),
        (whole(b' {"error": 1}', content_type="application/octet-stream"), "page of text"),
        (whole(b"<!DOCTYPE html><p>", content_type="video/mp4"), "page of text"),
        (whole(b"", content_type="video/mp4"), "empty"),
        (whole(b"zip", content_type="video/mp4", content_encoding="gzip"), "encoded"),
        (whole(b"\x89PNG", content_type="image/png"), "image/png"),
    ],
)
async def test_what_is_no_such_result_is_not_stored(tmp_path: Path, answer: Items, said: str) -> None:
    """An error page in place of a video, nothing at all, or another kind of thing: nothing is written down."""
    async with standing(tmp_path) as stand, serving(answer) as site:
        wanted = await stand.completed(url_of(site))
        with pytest.raises(DownloadExpired, match=said):
            await stand.keeper().keep(wanted)
        assert (await stand.rows())[0].kept is None
        assert stand.files() == []


async def test_a_length_that_is_not_kept_is_no_result(tmp_path: Path) -> None:
    """A server that always sends fewer bytes than it says never has its result stored."""
    short = [head(200, {"content-type": "video/mp4", "content-length": 9000}) + VIDEO[:5000]]
    async with standing(tmp_path) as stand, serving(short) as site:
        wanted = await stand.completed(url_of(site))
        with pytest.raises(DownloadInterrupted, match="broke off"):
            await stand.keeper().keep(wanted)
        assert (await stand.rows())[0].kept is None


async def test_a_redirect_to_a_private_address_is_refused(tmp_path: Path) -> None:
    """No connection is made there, and nothing is stored."""
    async with standing(tmp_path, allow="media.local") as stand, serving(whole(VIDEO)) as private:
        leads = [head(302, {"location": f"http://127.0.0.1:{private.port}/v.mp4", "content-length": 0})]
        async with serving(leads) as site:
            wanted = await stand.completed(url_of(site))
            with pytest.raises(DownloadRefused, match="not a public address"):
                await stand.keeper(fresh(wanted.result)).keep(wanted)
            assert len(site.asked) == 1
        assert private.connections == 0
        assert (await stand.rows())[0].kept is None


async def test_a_crash_before_it_was_written_down_costs_no_second_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is whole in the spool is only stored, and what is stored already is only written down."""
    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))

        async def failing(*_: object) -> None:
            raise StorageError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(stand.place, "put", failing)
            with pytest.raises(StorageError):
                await stand.keeper().keep(wanted)
        with monkeypatch.context() as patch:
            patch.setattr(stand.ledger, "keep_result", failing)
            with pytest.raises(StorageError):
                await stand.keeper().keep(wanted)
        kept = await stand.keeper().keep(wanted)
        assert stand.stored(kept) == VIDEO
        assert len(site.asked) == 1
        assert stand.left() == []


async def test_what_came_whole_before_a_crash_is_kept_whatever_the_server_says_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that has no more of it says so with a page of its own, whose type and coding are not the result's."""

    def reply(asked: Asked) -> Items:
        if asked.headers.get("range") != f"bytes={len(VIDEO)}-":
            return film(asked)
        told: dict[str, str | int] = {
            "content-range": f"bytes */{len(VIDEO)}",
            "content-type": "text/html",
            "content-encoding": "gzip",
            "content-length": 0,
        }
        return [head(416, told)]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with standing(tmp_path) as stand, serving(reply) as site:
        wanted = await stand.completed(url_of(site))
        with monkeypatch.context() as patch:
            patch.setattr(Piece, "seal", full)
            with pytest.raises(OSError, match="No space"):
                await stand.keeper().keep(wanted)
        kept = await stand.keeper().keep(wanted)
        assert (stand.stored(kept), kept.content_type) == (VIDEO, "video/mp4")
        assert len(site.asked) == 2


async def test_a_note_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, half of it would lie there for ever."""
    replace_path = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise OSError(28, "No space left on device")
        return replace_path(self, target)

    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", full)
            with pytest.raises(OSError, match="No space"):
                await stand.keeper().keep(wanted)
        assert stand.left() == []
        assert stand.stored(await stand.keeper().keep(wanted)) == VIDEO


async def test_a_folder_that_turns_read_only_keeps_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be taken away must not keep the result from this process for ever."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    piece = Piece.open(tmp_path, "task_one.0")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(OSError, match="Read-only"):
            piece.close()
    again = Piece.open(tmp_path, "task_one.0")
    again.close()
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []


async def test_a_sealed_part_that_was_damaged_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash tells."""
    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))

        async def failing(*_: object) -> None:
            raise StorageError("not now")

        with monkeypatch.context() as patch:
            patch.setattr(stand.place, "put", failing)
            with pytest.raises(StorageError):
                await stand.keeper().keep(wanted)
        await asyncio.to_thread((stand.place.spool / f"{wanted.task.id}.0.part").write_bytes, b"rubbish")
        kept = await stand.keeper().keep(wanted)
        assert stand.stored(kept) == VIDEO
        assert len(site.asked) == 2


async def test_two_processes_never_store_one_result_at_once(tmp_path: Path) -> None:
    """The second one is told so, and may come back."""
    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))
        other = Piece.open(stand.place.spool, f"{wanted.task.id}.0")
        with pytest.raises(StorageError, match="another process"):
            await stand.keeper().keep(wanted)
        other.close()
        assert stand.stored(await stand.keeper().keep(wanted)) == VIDEO


async def test_being_cancelled_while_it_opens_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops just then must not keep itself, or others, from it later."""
    opened, opening = asyncio.Event(), threading.Event()
    loop, take = asyncio.get_running_loop(), Piece.open

    def slow(folder: Path, stem: str) -> Piece:
        loop.call_soon_threadsafe(opened.set)
        opening.wait(10)
        return take(folder, stem)

    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))
        with monkeypatch.context() as patch:
            patch.setattr(Piece, "open", slow)
            first = asyncio.create_task(stand.keeper().keep(wanted))
            await asyncio.wait_for(opened.wait(), 10)
            first.cancel()
            await asyncio.sleep(0)
            opening.set()
            await asyncio.wait({first})
        assert first.cancelled()
        assert stand.stored(await stand.keeper().keep(wanted)) == VIDEO


async def test_a_result_whose_event_is_gone_is_told_of(tmp_path: Path) -> None:
    """An event may be pruned meanwhile."""
    async with standing(tmp_path) as stand, serving(film) as site:
        wanted = await stand.completed(url_of(site))
        gone = replace(wanted, event_id="evt_gone")
        with pytest.raises(NotFound, match="evt_gone"):
            await stand.keeper().keep(gone)


async def test_verify_sees_what_has_changed(tmp_path: Path) -> None:
    """Other bytes, fewer bytes, no file, another place."""
    async with standing(tmp_path) as stand, serving(film) as site:
        kept = await stand.keeper().keep(await stand.completed(url_of(site)))
        stand.spoil(kept, VIDEO[:-1] + b"!")
        assert "not those that were stored" in (await verify(stand.place, kept) or "")
        stand.spoil(kept, VIDEO[:-1])
        assert "10239 bytes are there" in (await verify(stand.place, kept) or "")
        stand.spoil(kept, None)
        with pytest.raises(StorageError, match="cannot be read"):
            await verify(stand.place, kept)
        elsewhere = kept.stored_url.replace(str(stand.folder), f"{stand.folder}-old")
        with pytest.raises(StorageError, match="has changed since"):
            await anext(aiter(stand.place.read(elsewhere)))

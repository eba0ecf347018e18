"""Keeps one result: fetches it into the spool, looks at what came, stores it, writes it in the ledger.

A download that breaks off is gone on with, at once and in later attempts, also after a crash. A URL that does not give
the result (any more) is replaced by a fresh one of the provider's own, asked for at most once in a call: `refresh` is
how, handed in by the composition root. What is sealed in the spool was fetched whole: then only storing is left.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ringback.errors import (
    DownloadExpired,
    DownloadInterrupted,
    NotFound,
    SettingsError,
    Unreachable,
    Unreadable,
    Unsupported,
)
from ringback.ledger import KeptResult, Ledger
from ringback.model import Result, Task
from ringback.outbound.downloads import Download, Downloads
from ringback.results import naming
from ringback.results.places import Place, in_thread
from ringback.results.spool import Piece, Sealed, sha256_of

log = structlog.get_logger("ringback.results")

Refresh = Callable[[Task], Awaitable[tuple[Result, ...]]]  # what the provider says now; changes nothing
Clock = Callable[[], datetime]

FLUSH = 1 << 20  # bytes that are collected before they are written
GO_ON = 5  # times in one call, each time something more has come
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A result that is to be stored."""

    event_id: str
    task: Task
    position: int  # among the results of its event
    result: Result


class Keeper:
    """Keeps results in one place. It does one after another as it is called; how many at once is the caller's choice.

    Args:
        ledger: where what is stored is written down.
        downloads: how it is fetched.
        place: where it is stored.
        refresh: how the provider is asked for a fresh URL; without it none is asked for.
        clock: gives the time, aware and in UTC.
        timeout_seconds: when a download that breaks off is not gone on with any more, in one call.
        pause_seconds: between a download that broke off and going on with it.
    """

    def __init__(
        self,
        ledger: Ledger,
        downloads: Downloads,
        place: Place,
        *,
        refresh: Refresh | None = None,
        clock: Clock = lambda: datetime.now(UTC),
        timeout_seconds: float = 600.0,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._downloads = downloads
        self._place = place
        self._refresh = refresh
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._pause_seconds = pause_seconds

    async def keep(self, wanted: Wanted) -> KeptResult:
        """Fetch and store one result.

        Raises:
            DownloadRefused: it is not fetched from there, or is too large.
            DownloadExpired: neither its URL nor a fresh one gives it; or what they give is no such result.
            DownloadInterrupted: it may work later.
            StorageError: it could not be stored; the same.
            NotFound: its event is gone from the ledger.
            OSError: the spool cannot be used.
        """
        async with self._piece(wanted) as piece:
            stored_url, sealed = await self._stored(piece, wanted)
            kept = KeptResult(
                event_id=wanted.event_id,
                position=wanted.position,
                stored_url=stored_url,
                size=sealed.size,
                sha256=sealed.sha256,
                content_type=sealed.content_type,
                stored_at=self._clock(),
            )
            known = await self._ledger.keep_result(kept)
            await in_thread(piece.clear)
        fields = {"task": wanted.task.id, "event_id": wanted.event_id, "position": wanted.position}
        if not known:
            raise NotFound(f"event {wanted.event_id} is gone; its result was stored as {stored_url}")
        log.info("result.stored", url=stored_url, size=sealed.size, sha256=sealed.sha256, **fields)
        return kept

    async def forget(self, wanted: Wanted) -> None:
        """Take away what has come so far of a result that is given up."""
        async with self._piece(wanted) as piece:
            await in_thread(piece.clear)

    @asynccontextmanager
    async def _piece(self, wanted: Wanted) -> AsyncIterator[Piece]:
        """Take the piece of a result, and let go of it whenever the caller is cancelled: it holds a lock."""
        stem = naming.stem(wanted.task.id, wanted.position)
        opening = asyncio.ensure_future(asyncio.to_thread(Piece.open, self._place.spool, stem))
        try:
            piece = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening})
            if opening.exception() is None:
                await in_thread(opening.result().close)
            raise
        try:
            yield piece
        finally:
            await in_thread(piece.close)

    async def _stored(self, piece: Piece, wanted: Wanted) -> tuple[str, Sealed]:
        """Have it stored, with as little work as is left to do."""
        sealed = piece.note.sealed if piece.note else None
        if sealed is not None:
            if stored_url := await self._place.holds(sealed.name, sealed.size, sealed.sha256):
                return stored_url, sealed  # a crash kept us from writing it down
            if not await in_thread(_is_whole, piece.path, sealed):
                await in_thread(piece.clear)
                sealed = None
        if sealed is None:
            sealed = await self._fetched(piece, wanted)
        return await self._place.put(sealed.name, piece.path, sealed.content_type), sealed

    async def _fetched(self, piece: Piece, wanted: Wanted) -> Sealed:
        """Fetch it from its URL, or from a fresh one."""
        try:
            return await self._fetch(piece, wanted)
        except DownloadExpired as error:
            fresh = await self._refreshed(wanted, error)
            return await self._fetch(piece, replace(wanted, result=fresh))

    async def _refreshed(self, wanted: Wanted, error: DownloadExpired) -> Result:
        """Ask the provider for a fresh URL."""
        if self._refresh is None:
            raise error
        fields = {"task": wanted.task.id, "provider": wanted.task.provider, "position": wanted.position}
        try:
            found = await self._refresh(wanted.task)
        except (Unreachable, SettingsError) as trouble:
            raise DownloadInterrupted(f"{error}; the provider could not be asked ({trouble})") from error
        except (Unsupported, Unreadable) as trouble:
            raise DownloadExpired(f"{error}; the provider gives no other ({trouble})", status=error.status) from error
        if len(found) <= wanted.position or found[wanted.position].kind != wanted.result.kind:
            text = f"{error}; the provider tells of {len(found)} results now, none of them in its place"
            raise DownloadExpired(text, status=error.status) from error
        log.info("result.refreshed", reason=str(error), **fields)
        return found[wanted.position]

    async def _fetch(self, piece: Piece, wanted: Wanted) -> Sealed:
        """Fetch it whole, going on where it breaks off as long as there is progress."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        for again in range(GO_ON):
            before = piece.size
            try:
                content_type = await self._receive(piece, wanted.result)
                break
            except DownloadInterrupted as error:
                stuck = piece.size <= before or again == GO_ON - 1 or loop.time() >= deadline
                if stuck or error.retry_after_seconds is not None:
                    raise
            await asyncio.sleep(self._pause_seconds)
        name = naming.file_name(wanted.task.id, wanted.position, wanted.result.kind, content_type, wanted.result.url)
        return await in_thread(piece.seal, name, content_type)

    async def _receive(self, piece: Piece, result: Result) -> str | None:
        """Receive what is missing; gives the content type. What has come is written down, however it ends."""
        part = await in_thread(piece.part, result.url)
        async with self._downloads.open(result.url, part=part) as download:
            content_type = download.content_type
            if download.start and piece.note and content_type is None:
                content_type = piece.note.content_type
            _look_at_head(download, result.kind, content_type)
            if not download.start:
                await in_thread(piece.begin, result.url, download.validator, download.length, content_type)
            await self._write(piece, download, result.kind)
        if piece.size == 0:
            raise DownloadExpired(f"{download.host}: what came is empty", status=download.status)
        return naming.plain_type(content_type) or None

    async def _write(self, piece: Piece, download: Download, kind: str) -> None:
        waiting = bytearray()
        try:
            async for chunk in download:
                waiting += chunk
                if len(waiting) >= FLUSH:
                    await self._flush(piece, download, kind, waiting)
        finally:
            if waiting:
                await self._flush(piece, download, kind, waiting)

    async def _flush(self, piece: Piece, download: Download, kind: str, waiting: bytearray) -> None:
        if piece.size == 0 and (flaw := naming.wrong_beginning(kind, bytes(waiting[: naming.SNIFFED]))):
            waiting.clear()
            raise DownloadExpired(f"{download.host}: {flaw}", status=download.status)
        data = bytes(waiting)
        waiting.clear()
        await in_thread(piece.append, data)


async def verify(place: Place, kept: KeptResult) -> str | None:
    """Read a stored result again; say what is wrong with it, None where nothing is.

    Raises:
        StorageError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    async for chunk in place.read(kept.stored_url):
        await in_thread(digest.update, chunk)
        size += len(chunk)
    if size != kept.size:
        return f"{size} bytes are there, {kept.size} were stored"
    return None if digest.hexdigest() == kept.sha256 else "its bytes are not those that were stored"


def _look_at_head(download: Download, kind: str, content_type: str | None) -> None:
    """Refuse what cannot be the result, before a byte of it is read.

    Raises:
        DownloadExpired: a fresh URL may give it.
    """
    flaw = naming.wrong_type(kind, content_type)
    encoding = (download.content_encoding or "identity").strip().lower()
    if flaw is None and encoding != "identity":
        flaw = f"it came encoded ({encoding[:20]}), which was not asked for"
    if flaw is not None:
        raise DownloadExpired(f"{download.host}: {flaw}", status=download.status)


def _is_whole(path: Path, sealed: Sealed) -> bool:
    try:
        return sha256_of(path) == (sealed.size, sealed.sha256)
    except OSError:
        return False

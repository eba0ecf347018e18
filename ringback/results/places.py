"""Where results are stored: a folder, or a bucket of S3, Google or Azure through obstore.

Either stores atomically: under its name there is the whole result or nothing. What is stored here was whole before, in
the spool. Called by `keeper`, and by `ringback results verify` and `doctor`, which read.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

from ringback.errors import SettingsError, StorageError
from ringback.results.spool import READ, sha256_of
from ringback.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

Answer = TypeVar("Answer")

SETTING = "RINGBACK_RESULTS_URL"
PARTS = ".parts"
LEAST_PART = 5 << 20  # S3 takes no smaller ones
MOST_PARTS = 9_000  # and no more than 10,000
UPLOADS = 1  # parts of one result at once: each is in memory, more than once
RETRIES = 3
RETRY_SECONDS = 60.0
HEAD_SECONDS = 30.0
PROBE = ".ringback-probe"


class Place(Protocol):
    """What `keeper` needs of a place."""

    url: str  # without a slash at its end
    spool: Path

    async def put(self, name: str, whole: Path, content_type: str | None) -> str:
        """Store a file under this name, whatever is there; the file may be gone then. Gives the stored URL.

        Raises:
            StorageError: it cannot be stored now; nothing is there that was not before.
            OSError: the same.
        """

    async def holds(self, name: str, size: int, sha256: str) -> str | None:
        """Give the stored URL where just this is stored under this name."""

    def read(self, stored_url: str) -> AsyncIterator[bytes]:
        """Read what is stored.

        Raises:
            StorageError: it is not there, or cannot be read, or is of another place.
        """

    async def check(self) -> None:
        """See to it that something could be stored.

        Raises:
            StorageError: it could not.
        """


def open_place(settings: Settings) -> Place | None:
    """Give the place that the settings name; None where none is named.

    Raises:
        SettingsError: it needs obstore, or obstore does not take it.
    """
    url = settings.results_url
    if url is None:
        return None
    if url.startswith("file:"):
        return Folder(url)
    path = settings.database_path if settings.embedded else Path("ringback").absolute()
    return Bucket(url, path.with_name(f"{path.name}.results"), settings.results_timeout_seconds)


async def in_thread(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Call what blocks. Whoever is cancelled meanwhile waits for its end: it may hold a file."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # nobody asks for it any more
        raise


class Folder:
    """A folder of this machine."""

    def __init__(self, url: str) -> None:
        self.root = Path(unquote(urlsplit(url).path))
        self.url = "file://" + quote(str(self.root))
        self.spool = self.root / PARTS  # beside the results: what is whole is only renamed

    async def put(self, name: str, whole: Path, content_type: str | None) -> str:  # noqa: ARG002 -- a file has no type
        """Rename, and see to it that the new name outlives a power cut."""
        await in_thread(_publish, whole, self.root / name)
        return f"{self.url}/{name}"

    async def holds(self, name: str, size: int, sha256: str) -> str | None:
        """Read the file, where there is one."""
        try:
            found = await in_thread(sha256_of, self.root / name)
        except OSError:
            return None
        return f"{self.url}/{name}" if found == (size, sha256) else None

    async def read(self, stored_url: str) -> AsyncIterator[bytes]:
        """Read the file."""
        path = self.root / unquote(_name(self.url, stored_url))
        try:
            file = await in_thread(_open, path)
            try:
                while chunk := await in_thread(file.read, READ):
                    yield chunk
            finally:
                await in_thread(file.close)
        except OSError as error:
            raise _cannot("read", stored_url, error.strerror or type(error).__name__) from None

    async def check(self) -> None:
        """Make and remove a file."""
        try:
            await in_thread(self._probe)
        except OSError as error:
            raise _cannot("written", self.url, error.strerror or type(error).__name__) from None

    def _probe(self) -> None:
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self.spool / PROBE
        probe.touch()
        probe.unlink(missing_ok=True)


class Bucket:
    """A bucket or container. Its credentials are obstore's business: each cloud's usual variables, or its machine."""

    def __init__(
        self, url: str, spool: Path, timeout_seconds: float = 600.0, *, store: "ObjectStore | None" = None
    ) -> None:
        self.url = url.rstrip("/")
        self.spool = spool
        self._timeout_seconds = timeout_seconds
        self._store = store if store is not None else _store(self.url)

    async def put(self, name: str, whole: Path, content_type: str | None) -> str:
        """Upload in parts; obstore takes back what it has begun where it fails."""
        import obstore

        size = (await in_thread(whole.stat)).st_size
        attributes: Any = {"Content-Type": content_type} if content_type else None
        with _explained("written", f"{self.url}/{name}"):
            async with asyncio.timeout(self._timeout_seconds):
                await obstore.put_async(
                    self._store,
                    name,
                    whole,
                    attributes=attributes,
                    chunk_size=max(LEAST_PART, -(-size // MOST_PARTS)),
                    max_concurrency=UPLOADS,
                )
        return f"{self.url}/{name}"

    async def holds(self, name: str, size: int, sha256: str) -> str | None:  # noqa: ARG002 -- the spool has it still
        """Not asked here: what was uploaded stays in the spool until it is written in the ledger."""
        return None

    async def read(self, stored_url: str) -> AsyncIterator[bytes]:
        """Stream the object."""
        import obstore

        name = _name(self.url, stored_url)
        with _explained("read", stored_url):
            async with asyncio.timeout(self._timeout_seconds):
                found = await obstore.get_async(self._store, name)
                async for chunk in found.stream(min_chunk_size=READ):
                    yield bytes(chunk)

    async def check(self) -> None:
        """Ask for an object that is not there."""
        import obstore

        with _explained("reached", self.url):
            async with asyncio.timeout(HEAD_SECONDS):
                try:
                    await obstore.head_async(self._store, PROBE)
                except FileNotFoundError:
                    return


def _open(path: Path) -> FileIO:
    return path.open("rb", buffering=0)


def _publish(whole: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    whole.replace(target)
    for folder in (target.parent, target.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _name(url: str, stored_url: str) -> str:
    """Give the name under which a result is stored here."""
    name = stored_url.removeprefix(f"{url}/")
    if name == stored_url or ".." in name.split("/"):
        raise StorageError(f"{stored_url} is not in {url}: {SETTING} has changed since")
    return name


def _store(url: str) -> "ObjectStore":
    try:
        from obstore.store import from_url
    except ImportError:
        scheme = url.partition(":")[0]
        text = f"{SETTING}: {scheme}:// needs obstore, which is not installed; pip install 'ringback[results]'"
        raise SettingsError(text) from None
    try:
        retries: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
        return from_url(url, retry_config=retries)
    except Exception as error:  # its own errors, and ValueError; their text may quote what it was given
        raise SettingsError(f"{SETTING}: obstore does not take {url} ({type(error).__name__})") from None


@contextmanager
def _explained(what: str, where: str) -> "Iterator[None]":
    """Say what went wrong by its kind: the texts of obstore quote requests and answers."""
    from obstore.exceptions import BaseError

    try:
        yield
    except TimeoutError:
        raise _cannot(what, where, "no end in time") from None
    except (BaseError, OSError, ValueError) as error:
        raise _cannot(what, where, type(error).__name__) from None


def _cannot(what: str, where: str, why: str) -> StorageError:
    return StorageError(f"{where} cannot be {what} ({why})")

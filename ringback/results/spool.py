"""Where a result lies until it is whole and stored: a file that grows, a note beside it, and a lock over both.

What was written before a crash is gone on with, so the note says of which version of which URL it is. Of a machine that
has started anew since, nothing is believed: bytes that were never synced may be missing in the middle.

Everything here blocks: `keeper` calls it in threads, one call at a time for each piece.
"""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ringback.errors import StorageError
from ringback.outbound.downloads import Part

READ = 1 << 20
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux only; elsewhere a restart goes unnoticed


class Sealed(Struct, frozen=True, kw_only=True):
    """What a whole result is."""

    size: int
    sha256: str
    content_type: str | None
    name: str


class Note(Struct, frozen=True, kw_only=True):
    """What the file beside is a part of."""

    source: str  # of the URL without its query: what a fresh signature leaves as it is
    validator: str | None
    length: int | None
    content_type: str | None
    boot: str
    sealed: Sealed | None = None


_read_note = msgspec.json.Decoder(Note).decode


class Piece:
    """One result on its way. Close it; nobody else can have it until then."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / f"{stem}.part"
        self._note_path = folder / f"{stem}.json"
        self._lock_path = folder / f"{stem}.lock"
        self._lock = _locked(self._lock_path)
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self.size = 0
        self.note = self._find_note()

    @classmethod
    def open(cls, folder: Path, stem: str) -> Self:
        """Take a piece, making the folder where there is none.

        Raises:
            StorageError: another process has it.
            OSError: the folder cannot be used.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder, stem)

    def part(self, url: str) -> Part | None:
        """Tell how far it is, where that can be gone on with from this URL."""
        note = self.note
        if note is None or note.validator is None or note.source != source_of(url):
            return None
        if self._file is None:
            self._reopen()
        return Part(size=self.size, validator=note.validator, length=note.length) if self.size else None

    def begin(self, url: str, validator: str | None, length: int | None, content_type: str | None) -> None:
        """Begin with nothing."""
        self._close_file()
        self.note = Note(
            source=source_of(url), validator=validator, length=length, content_type=content_type, boot=_boot()
        )
        self._file = self.path.open("wb", buffering=0)
        self._hash, self.size = hashlib.sha256(), 0
        self._write_note(self.note)

    def append(self, data: bytes | bytearray) -> None:
        """Write what has come."""
        assert self._file is not None  # noqa: S101 -- begun, or gone on with
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self._hash.update(view[:written])
            self.size += written
            view = view[written:]

    def seal(self, name: str, content_type: str | None) -> Sealed:
        """Take it for whole, and see to it that it stays so."""
        assert self._file is not None and self.note is not None  # noqa: S101, PT018 -- something was written
        os.fsync(self._file.fileno())
        self._close_file()
        sealed = Sealed(size=self.size, sha256=self._hash.hexdigest(), content_type=content_type, name=name)
        self.note = msgspec.structs.replace(self.note, sealed=sealed)
        self._write_note(self.note)
        return sealed

    def clear(self) -> None:
        """Take all of it away: it is stored, or is never to be."""
        self._close_file()
        for path in (self.path, self._note_path):
            path.unlink(missing_ok=True)
        self.note = None

    def close(self) -> None:
        """Let others have it."""
        try:
            self._close_file()
            if not self._note_path.exists():  # nothing is to be gone on with
                self.path.unlink(missing_ok=True)
                self._lock_path.unlink(missing_ok=True)
        finally:  # or nobody could have it as long as this process lives
            os.close(self._lock)

    def _find_note(self) -> Note | None:
        try:
            note = _read_note(self._note_path.read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
        return note if note.boot == _boot() or note.sealed else None

    def _reopen(self) -> None:
        """Go on behind what is there, which is read once, for its hash."""
        with contextlib.suppress(FileNotFoundError):
            self._file = self.path.open("r+b", buffering=0)
            self._hash, self.size = hashlib.sha256(), 0
            while chunk := self._file.read(READ):
                self._hash.update(chunk)
                self.size += len(chunk)

    def _write_note(self, note: Note) -> None:
        beside = self._note_path.with_suffix(".new")
        try:
            beside.write_bytes(msgspec.json.encode(note))
            beside.replace(self._note_path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def source_of(url: str) -> str:
    """Give what a fresh URL of the same file has in common with the old one, unreadably."""
    parts = urlsplit(url)
    return hashlib.sha256(f"{parts.scheme}://{parts.netloc}{parts.path}".encode()).hexdigest()


def sha256_of(path: Path) -> tuple[int, str]:
    """Read a file; gives its size and hash."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(READ):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _locked(path: Path) -> int:
    """Take a lock, and make sure that it is the one which others will find there."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:  # else whoever had it has just taken it away
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise StorageError("another process is storing this result right now") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _boot() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""

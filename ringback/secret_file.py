"""The URL secret that `up` and `demo` make for themselves, kept beside the database.

It is complete before it is visible and is never overwritten. `settings` reads it when RINGBACK_SECRET is not set.
"""

import contextlib
import os
import secrets
from pathlib import Path

from ringback.errors import SettingsError


def secret_path(database: Path) -> Path:
    """Tell where the secret of this database lives."""
    return database.with_name(database.name + ".secret")


def read_secret(database: Path) -> str | None:
    """Read the generated secret; None when there is none.

    Raises:
        SettingsError: the file is there but cannot be read.
    """
    path = secret_path(database)
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); fix it or set RINGBACK_SECRET") from error


def ensure_secret(database: Path) -> str:
    """Give the secret of this database, making it first where there is none (mode 0600).

    Raises:
        SettingsError: it can be neither read nor made.
    """
    if known := read_secret(database):
        return known
    path = secret_path(database)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")  # a process id comes again: in a container, soon
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: then theirs is the one
            os.link(draft, path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be made ({error}); set RINGBACK_SECRET yourself") from error
    finally:
        draft.unlink(missing_ok=True)
    if known := read_secret(database):
        return known
    raise SettingsError(f"{path}: it is empty; remove it, or set RINGBACK_SECRET yourself")

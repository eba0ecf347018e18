"""Whether a place is fit for a SQLite database: a disk that stays, with locks, which every process shares.

`refuse` stops `serve` and `up` where it is not, before anything is made there; `doctor` shows the same. What is known
of a place is decided by plain functions over the environment and the text of /proc/self/mountinfo. Where there is no
such file (not on Linux), nothing is known against a place.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from ringback.errors import RingbackError
from ringback.settings import Settings

MOUNTS = Path("/proc/self/mountinfo")
# What a platform sets in every instance of a function or a container that it may end, or start twice, at any time.
PLATFORMS = {
    "K_SERVICE": "Cloud Run, Cloud Functions or Knative",
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda",
}
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
OVER_THE_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.gcsfuse", "fuse.s3fs"})
ADVICE = "keep it on a disk that stays (RINGBACK_DATABASE_URL), and run Ringback where there is one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is known against a place; where it only `may` go wrong, nothing is refused."""

    why: str
    may: bool = False


def examine(path: PurePath, environ: Mapping[str, str], mounts: str) -> Finding | None:
    """Say what is wrong with a database at this absolute path; None where nothing is known."""
    for name, platform in PLATFORMS.items():
        if environ.get(name):
            return Finding(
                why=f"this is {platform} ({name} is set), where each instance has files of its own, which end with it"
            )
    kind = file_system(path, mounts)
    if kind in IN_MEMORY:
        return Finding(why=f"it lies in memory ({kind}), and is gone when the machine or container restarts")
    if kind in OVER_THE_NETWORK:
        return Finding(why=f"it lies on a network file system ({kind}), without the locks that SQLite needs")
    if kind == "overlay":
        return Finding(why="it lies in a container's own layer (overlay), and is gone with the container", may=True)
    return None


def file_system(path: PurePath, mounts: str) -> str | None:
    """Find the type of the file system that holds a path: that of the longest mount point above it, the last if two."""
    found: tuple[int, str] | None = None
    for point, kind in _mount_points(mounts):
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), kind
    return found[1] if found else None


def _mount_points(mounts: str) -> Iterator[tuple[PurePath, str]]:
    """Read each line of mountinfo: the fifth field is the mount point, the first one behind the lone dash the type."""
    for line in mounts.splitlines():
        mount, dash, source = line.partition(" - ")
        fields, kinds = mount.split(), source.split()
        if dash and len(fields) > 4 and kinds:
            yield PurePath(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])), kinds[0]


def look(path: Path) -> Finding | None:
    """Examine a place on this machine."""
    try:
        # As bytes that are no UTF-8 are spelt in paths.
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        mounts = ""
    return examine(Path(os.path.realpath(path)), os.environ, mounts)


def refuse(settings: Settings) -> None:
    """Stop where the database would be lost or damaged, and the user has not allowed it.

    Raises:
        RingbackError: says why, and what to do.
    """
    finding = look(settings.database_path) if settings.embedded else None
    if finding is None or finding.may or settings.allow_ephemeral:
        return
    raise RingbackError(
        f"{settings.database_path} is no place for a database: {finding.why}; {ADVICE}. "
        "To use it all the same: RINGBACK_ALLOW_EPHEMERAL=true"
    )

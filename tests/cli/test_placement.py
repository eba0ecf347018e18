"""Where a database may not be kept, how that is known, and who says so."""

from pathlib import Path, PurePosixPath

import msgspec
import pytest

from ringback.cli import placement
from ringback.cli.placement import Finding, examine, file_system

from .conftest import Ringback

MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
28 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw
30 27 0:27 / /ram rw,relatime shared:4 master:2 - tmpfs tmpfs rw,size=24684096k
31 27 0:30 / /srv rw - nfs4 files.example:/srv rw
32 31 8:1 / /srv/disk rw - xfs /dev/sdb rw
33 27 0:31 / /mnt/my\\040share rw - cifs //files.example/share rw
34 27 0:32 / /run/fs rw - ramfs ramfs rw
35 27 0:33 / /over rw - tmpfs tmpfs rw
36 35 8:2 / /over rw - ext4 /dev/sdc rw
37 27 0:34 / /host rw - 9p host rw
a line that is none
38 27 0:35 / /short -
"""
CONTAINER = "1 0 0:50 / / rw - overlay overlay rw\n2 1 8:1 /d /data rw - ext4 /dev/sda rw\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/ringback.db", "ext4"),
        ("/ram/x.db", "tmpfs"),
        ("/ramdisk/x.db", "ext4"),
        ("/srv/ringback.db", "nfs4"),
        ("/srv/disk/ringback.db", "xfs"),
        ("/mnt/my share/ringback.db", "cifs"),
        ("/over/ringback.db", "ext4"),
        ("/short/ringback.db", "ext4"),
    ],
)
def test_file_system(path: str, kind: str) -> None:
    """The nearest mount point counts, whole names only, the last of two; a name may hold a blank."""
    assert file_system(PurePosixPath(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/ram/x.db", "in memory (tmpfs)"),
        ("/run/fs/x.db", "in memory (ramfs)"),
        ("/srv/x.db", "network file system (nfs4)"),
        ("/mnt/my share/x.db", "network file system (cifs)"),
        ("/host/x.db", "network file system (9p)"),
    ],
)
def test_places_that_are_refused(path: str, word: str) -> None:
    """Memory and network file systems are no place for a database."""
    finding = examine(PurePosixPath(path), {}, MOUNTS)
    assert finding is not None
    assert (word in finding.why, finding.may) == (True, False)


@pytest.mark.parametrize(("name", "platform"), [("K_SERVICE", "Cloud Run"), ("AWS_LAMBDA_FUNCTION_NAME", "AWS Lambda")])
def test_function_platforms(name: str, platform: str) -> None:
    """On a function platform every place is refused; an empty variable is none."""
    finding = examine(PurePosixPath("/srv/disk/x.db"), {name: "mine"}, MOUNTS)
    assert finding is not None
    assert (platform in finding.why, name in finding.why, finding.may) == (True, True, False)
    assert examine(PurePosixPath("/srv/disk/x.db"), {name: ""}, MOUNTS) is None


def test_places_that_are_not_refused() -> None:
    """A container's own layer is only doubtful, its volume is good, and without a list of mounts nothing is known."""
    layer = examine(PurePosixPath("/app/ringback.db"), {}, CONTAINER)
    assert layer == Finding(
        why="it lies in a container's own layer (overlay), and is gone with the container", may=True
    )
    assert examine(PurePosixPath("/data/ringback.db"), {}, CONTAINER) is None
    assert examine(PurePosixPath("/app/ringback.db"), {}, "") is None


@pytest.fixture
def in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have this folder lie in memory."""
    mounts = tmp_path_factory.mktemp("proc") / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {folder.resolve()} rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr(placement, "MOUNTS", mounts)
    return folder


@pytest.mark.parametrize("command", ["up", "serve"])
def test_up_and_serve_refuse(
    command: str, in_memory: Path, ringback: Ringback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end with 1 and say why and what to do, before anything is made; the setting lets them go on."""
    refused = ringback(command)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"error: {in_memory}/ringback.db is no place for a database: it lies in memory")
    assert "RINGBACK_DATABASE_URL" in refused.stderr
    assert "RINGBACK_ALLOW_EPHEMERAL=true" in refused.stderr
    assert list(in_memory.iterdir()) == []
    monkeypatch.setenv("RINGBACK_ALLOW_EPHEMERAL", "true")
    monkeypatch.setenv("RINGBACK_HANDLERS", "nowhere:handlers")
    further = ringback(command)  # to what stops it next
    assert "no place for a database" not in further.stderr
    assert further.exit_code != 0


@pytest.mark.usefixtures("in_memory")
def test_doctor_tells(ringback: Ringback, monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` shows such a place as ✗, as ! where it is allowed or only doubtful, and says nothing of a good one."""

    def marks() -> list[tuple[str, bool]]:
        checks = msgspec.json.decode(ringback("doctor", "--json").stdout)["checks"]
        return [(check["mark"], check["advice"] is not None) for check in checks if check["name"] == "place"]

    assert marks() == [("✗", True)]
    monkeypatch.setenv("RINGBACK_ALLOW_EPHEMERAL", "true")
    assert marks() == [("!", True)]
    monkeypatch.delenv("RINGBACK_ALLOW_EPHEMERAL")
    placement.MOUNTS.write_text("1 0 0:1 / / rw - overlay overlay rw\n")
    assert marks() == [("!", True)]
    placement.MOUNTS.write_text("1 0 0:1 / / rw - ext4 /dev/vda rw\n")
    assert marks() == []

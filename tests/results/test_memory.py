"""A large result streams: what the process needs more than for a small one is bounded, measured in a child process."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .bucket import bucket
from .films import Films, films

MIB = 1 << 20
ALLOWED_KIB = 30 * 1024


def grown(folder: Path, small: Films, large: Films, place: str = "", **environ: str) -> int:
    """Store both in a child process; gives by how much the second grew it, in KiB."""
    arguments = [str(folder), small.url, large.url, *([place] if place else [])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.results.child", *arguments],
        env=os.environ | environ,
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    digest = hashlib.sha256()
    for piece in large.content():
        digest.update(piece)
    assert (told["size"], told["sha256"]) == (large.size, digest.hexdigest())
    return int(told["grown_kib"])


def test_a_result_streams_into_a_folder(tmp_path: Path) -> None:
    """40 MiB take far less memory than they are."""
    with films(MIB) as small, films(40 * MIB) as large:
        assert grown(tmp_path, small, large) < ALLOWED_KIB


@pytest.mark.slow
def test_200_mb_stream_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figure of the promise: 200 MB under 30 MB."""
    with films(MIB) as small, films(200_000_000) as large:
        found = grown(tmp_path, small, large)
    with capsys.disabled():
        print(f"\n200 MB into a folder: {found / 1024:.1f} MiB more memory", file=sys.stderr)
    assert found < ALLOWED_KIB


@pytest.mark.slow
async def test_200_mb_stream_into_a_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for a store of objects, in parts, through the spool."""
    with films(MIB) as small, films(200_000_000) as large:
        async with bucket() as found:
            environ = {"AWS_ENDPOINT": f"http://127.0.0.1:{found.port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "x"}
            keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
            more = await asyncio.to_thread(grown, tmp_path, small, large, "s3://films", **environ, **keys)
            assert sorted(map(len, found.objects.values())) == [MIB, 200_000_000]
    with capsys.disabled():
        print(f"\n200 MB into a bucket: {more / 1024:.1f} MiB more memory", file=sys.stderr)
    assert more < ALLOWED_KIB

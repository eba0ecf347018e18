"""Stores one result in a process of its own, and tells what memory that took: `child.py FOLDER SMALL LARGE [PLACE]`.

The first, small one loads and warms up all that is used; what the peak grows by afterwards is the price of the size.
"""

import asyncio
import json
import re
import resource
import sys
from pathlib import Path

from ringback.results.places import Bucket

from .stand import standing

STATUS = Path("/proc/self/status")


def peak_kib() -> int:
    """Give the most memory that this program ever had."""
    if STATUS.exists():  # on Linux, what `getrusage` tells counts in what started this process
        return int(re.findall(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


async def main(folder: Path, small: str, large: str, bucket: str | None) -> None:
    """Store both."""
    place = Bucket(bucket, folder / "spool") if bucket else None
    async with standing(folder, place=place) as stand:
        keeper = stand.keeper()
        await keeper.keep(await stand.completed(small))
        before = peak_kib()
        kept = await keeper.keep(await stand.completed(large))
        print(json.dumps({"grown_kib": peak_kib() - before, "sha256": kept.sha256, "size": kept.size}))


if __name__ == "__main__":
    given = [*sys.argv[1:], None]
    asyncio.run(main(Path(str(given[0])), str(given[1]), str(given[2]), given[3]))

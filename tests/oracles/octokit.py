"""`@octokit/webhooks-methods`, GitHub's own library in JavaScript: its verdicts, recorded and live.

    python -m tests.oracles.octokit                     # ask it now: what `make oracles` does; needs Node and npm
    python -m tests.oracles.octokit --record            # write vectors/octokit.json anew

It is installed by npm into a temporary folder that is removed afterwards.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.oracles.oracle import Difference, Verdict, explained, is_not_utf8, our_verdict, values
from tests.oracles.spoiled import ALL, BODIES, OFFSETS, Recipe, spoil
from tests.providers.signatures.signed import BODY, GITHUB, TEXTS, b64, hexed
from tests.providers.signatures.test_mutations import Request

PACKAGE = "@octokit/webhooks-methods"
VECTORS = Path(__file__).with_name("vectors") / "octokit.json"
HEADER = b"x-hub-signature-256"
RECORDED = 400
KEY = TEXTS[0].encode()


def signed(body: bytes, over: bytes | None = None) -> bytes:
    """Give the header of a body, or of what was made of it."""
    return b"sha256=" + hexed(KEY, body if over is None else over)


def request(signature: bytes, body: bytes = BODY) -> Request:
    """Give a request with this header."""
    return [(HEADER, signature)], body


def header(asked: Request) -> str | None:
    """Give the header as Node does, where it comes twice with a comma between; None where it is missing."""
    found = [value.decode("latin-1") for value in values(asked, HEADER)]
    return ", ".join(found) if found else None


GOOD = signed(BODY)
LOST = b"\xff".decode("utf-8", "replace").encode()


def _pairs(asked: Request) -> list[str]:
    """Find pairs of hex digits as the build for browsers does: anywhere."""
    return re.findall(r"[0-9A-Fa-f]{2}", (header(asked) or "").replace("sha256=", "", 1))


NODE = (
    Difference("a body that is not UTF-8", Verdict.REFUSED, is_not_utf8, request(signed(b"\xff"), b"\xff"), ours=True),
    Difference(
        "a body that became another text", Verdict.ACCEPTED, is_not_utf8, request(signed(b"\xff", LOST), b"\xff")
    ),
    Difference("an empty body", Verdict.RAISED, lambda asked: not asked[1], request(signed(b""), b""), ours=True),
    Difference("no signature", Verdict.RAISED, lambda asked: not header(asked), ([], BODY)),
)
WEB = (
    *NODE,
    Difference(
        "another spelling of the hex",
        Verdict.ACCEPTED,
        lambda asked: "sha256=" + "".join(_pairs(asked)).lower() == signed(asked[1]).decode() != header(asked),
        request(b"sha256=" + GOOD.removeprefix(b"sha256=").upper()),
    ),
    Difference("no hex at all", Verdict.RAISED, lambda asked: not _pairs(asked), request(b"sha256=")),
)
DIFFERENCES = {"node": NODE, "web": WEB}


@dataclass(frozen=True, slots=True)
class Vector:
    """A request, and what the library said about it."""

    request: Request
    verdicts: dict[str, Verdict]
    signed: bytes | None
    """What it signs the same body with."""


def questions(seed: int, count: int) -> Iterator[Request]:
    """Give the examples of all differences, and spoiled requests of this seed."""
    yield request(GOOD)
    for difference in WEB:
        yield difference.example
    draw = random.Random(seed)
    for _ in range(count):
        yield spoil(GITHUB, recipe(draw)).request


def recipe(draw: random.Random) -> Recipe:
    """Draw a recipe as hypothesis does elsewhere."""
    steps = [
        (draw.randrange(len(ALL)), draw.randrange(10_000), draw.randrange(10_000)) for _ in range(draw.randint(0, 2))
    ]
    body = draw.choice([0] * 2 * len(BODIES) + list(range(1, len(BODIES) + 1)))
    return Recipe(0, 0, draw.randrange(len(OFFSETS)), body, draw.choice([0, 0, 0, 0, 0, 1]), steps)


def ask(folder: Path, asked: Sequence[Request]) -> dict[str, Any]:
    """Have the library in this folder answer, with the first secret."""
    listed = [{"secret": TEXTS[0], "body": b64(each[1]).decode(), "signature": header(each)} for each in asked]
    command = ["node", str(Path(__file__).with_suffix(".mjs")), str(folder)]
    done = subprocess.run(command, input=json.dumps(listed), capture_output=True, text=True, check=True, timeout=300)
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def read(recorded: dict[str, Any]) -> list[Vector]:
    """Read recorded questions and answers."""
    return [
        Vector(
            ([(name.encode(), value.encode("latin-1")) for name, value in each["headers"]], b64decode(each["body"])),
            {build: Verdict(each[build]) for build in DIFFERENCES},
            each["signed"] and each["signed"].encode(),
        )
        for each in recorded["vectors"]
    ]


def write(asked: Sequence[Request], answered: dict[str, Any]) -> dict[str, Any]:
    """Put questions and answers together as they are recorded."""
    vectors = [
        {
            "headers": [(name.decode(), value.decode("latin-1")) for name, value in lines],
            "body": b64(body).decode(),
            **answer,
        }
        for (lines, body), answer in zip(asked, answered["answers"], strict=True)
    ]
    return {"library": f"{PACKAGE} {answered['version']}", "vectors": vectors}


def _as_lines(recorded: dict[str, Any]) -> str:
    """Write the record with a line for each vector, so that changes can be read."""
    lines = ",\n".join(map(json.dumps, recorded["vectors"]))
    return f'{{"library": {json.dumps(recorded["library"])}, "vectors": [\n{lines}\n]}}\n'


def complaint(vector: Vector) -> str | None:
    """Say in which unlisted way the library and we differ about a request; None where there is none."""
    ours = our_verdict(GITHUB, vector.request, KEY) is None
    if ours != (values(vector.request, HEADER) == [signed(vector.request[1])]):
        return f"ours {'accepts' if ours else 'refuses'}, against GitHub's documents: {vector.request}"
    for build, theirs in vector.verdicts.items():
        if not explained(DIFFERENCES[build], vector.request, ours, theirs):
            return f"{build} {theirs}, ours {'accepts' if ours else 'refuses'}: {vector.request}"
    if vector.signed is not None and not is_not_utf8(vector.request):
        again = our_verdict(GITHUB, request(vector.signed, vector.request[1]), KEY)
        if again is not None:
            return f"we refuse what it signs: {again}, {vector.request}"
    return None


def install(folder: Path) -> None:
    """Install the library of today."""
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", PACKAGE]
    (folder / "package.json").write_text("{}")
    subprocess.run(command, cwd=folder, check=True, timeout=300, stdout=subprocess.DEVNULL)


def main() -> int:
    """Ask, and compare or record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="write the vectors of `make test` anew")
    parser.add_argument("--count", type=int, default=20_000, help="how many spoiled requests to ask about")
    options = parser.parse_args()
    if not (shutil.which("node") and shutil.which("npm")):
        print("node and npm are missing; on Debian and Ubuntu: apt-get install nodejs npm", file=sys.stderr)
        return 1
    seed = 0 if options.record else random.randrange(1 << 32)
    asked = list(questions(seed, RECORDED if options.record else options.count))
    with tempfile.TemporaryDirectory(prefix="ringback-octokit-") as name:
        install(Path(name))
        recorded = write(asked, ask(Path(name), asked))
    if options.record:
        VECTORS.write_text(_as_lines(recorded))
    vectors = read(recorded)
    complaints = [text for vector in vectors if (text := complaint(vector))]
    for text in complaints[:20]:
        print(text)
    print(f"{recorded['library']}, seed {seed}: {len(vectors)} requests, {len(complaints)} unlisted differences")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())

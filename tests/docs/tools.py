"""Stand-ins for `openssl` and `curl`, for machines that lack them: only what docs/how-to/verify-signatures.md uses.

Put on PATH as two small scripts, which call `main` with their own name and arguments.
"""

import base64
import hashlib
import hmac
import http.client
import site
import sys
from pathlib import Path
from urllib.parse import urlsplit

SCRIPT = """#!{python} -SE
import runpy
runpy.run_path({module!r})["main"]({name!r})
"""


def install(folder: Path) -> None:
    """Write the scripts into a folder."""
    for name in ("openssl", "curl"):
        script = folder / name
        script.write_text(SCRIPT.format(python=sys.executable, module=__file__, name=name))
        script.chmod(0o755)


def main(name: str) -> None:
    """Do what a command line asks for; standard output gets bytes."""
    arguments = sys.argv[1:]
    if arguments[0].startswith(("genpkey", "pkey")):
        site.main()  # left out at the start, which makes the others start in a third of the time
    commands = {"base64": _base64, "dgst": _dgst, "genpkey": _genpkey, "pkey": _pkey, "pkeyutl": _pkeyutl}
    written = _curl(arguments) if name == "curl" else commands[arguments[0]](arguments[1:])
    sys.stdout.buffer.write(written)


def _options(arguments: list[str], *flags: str) -> dict[str, str]:
    """Read `-name value`, and the flags that have none.

    Raises:
        SystemExit: there is something else.
    """
    found, left = {}, list(arguments)
    while left:
        name = left.pop(0)
        if not name.startswith("-"):
            sys.exit(f"this stand-in does not know {name}")
        found[name] = "" if name in flags else left.pop(0)
    return found


def _base64(arguments: list[str]) -> bytes:
    options, given = _options(arguments, "-A", "-d"), sys.stdin.buffer.read()
    return base64.b64decode(given, validate=True) if "-d" in options else base64.b64encode(given)


def _dgst(arguments: list[str]) -> bytes:
    options, given = _options(arguments, "-sha256", "-r", "-binary"), sys.stdin.buffer.read()
    hexkey = options.get("-macopt", "").removeprefix("hexkey:")
    key = bytes.fromhex(hexkey) if hexkey else options["-hmac"].encode() if "-hmac" in options else None
    digest = hashlib.sha256(given).digest() if key is None else hmac.digest(key, given, "sha256")
    return digest if "-binary" in options else f"{digest.hex()} *stdin\n".encode()


def _genpkey(arguments: list[str]) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    options = _options(arguments)
    assert options["-algorithm"] == "ed25519"
    Path(options["-out"]).write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
    return b""


def _pkey(arguments: list[str]) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    options = _options(arguments, "-pubout")
    assert options["-outform"] == "DER"
    public = Ed25519PrivateKey.from_private_bytes(Path(options["-in"]).read_bytes()).public_key()
    return bytes.fromhex("302a300506032b6570032100") + public.public_bytes_raw()  # RFC 8410


def _pkeyutl(arguments: list[str]) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    options = _options(arguments, "-sign", "-rawin")
    private = Ed25519PrivateKey.from_private_bytes(Path(options["-inkey"]).read_bytes())
    return private.sign(Path(options["-in"]).read_bytes())


def _curl(arguments: list[str]) -> bytes:
    """Post to the URL with -H, -u and -d, as `curl -sS` does."""
    url, headers, body, left = "", {"Content-Type": "application/x-www-form-urlencoded"}, b"", list(arguments)
    while left:
        word = left.pop(0)
        if word == "-H":
            name, _, value = left.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = left.pop(0).encode()
        elif word == "-u":
            headers["Authorization"] = f"Basic {base64.b64encode(left.pop(0).encode()).decode()}"
        elif word != "-sS":
            url = word
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("POST", parts.path, body, headers)
    return connection.getresponse().read()

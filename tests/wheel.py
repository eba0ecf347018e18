"""Builds the wheel and shows that it works where the repository is not: run by `make test`, not by pytest.

A new virtual environment gets the wheel and, through a path file, the dependencies that are installed already; then
`ringback serve` is started in an empty folder, must become ready with the schema from inside the wheel, and must stop.
"""

import json
import os
import site
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Build, install, start, stop."""
    with tempfile.TemporaryDirectory(prefix="ringback-wheel-") as name:
        folder = Path(name)
        wheel = _build(folder)
        with zipfile.ZipFile(wheel) as archive:
            assert "ringback/ledger/schema.sql" in archive.namelist(), "the wheel lacks schema.sql"
        python = _install(folder, wheel)
        _serve(python, folder / "empty")
    print(f"{wheel.name}: built, installed, ready, stopped")


def _build(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


def _install(folder: Path, wheel: Path) -> str:
    """Install the wheel alone; what it depends on is borrowed, the repository is not."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not entry.name.startswith(("_editable", "ringback", "__editable", "_ringback", "pip", "setuptools")):
            (borrowed / entry.name).symlink_to(entry)
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    return str(python)


def _serve(python: str, folder: Path) -> None:
    folder.mkdir()
    where = subprocess.run(
        [python, "-c", "import ringback; print(ringback.__file__)"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert str(ROOT) not in where, f"the repository was imported, not the wheel: {where}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("RINGBACK_", "COVERAGE_"))}
    environ |= {"RINGBACK_PORT": str(port), "RINGBACK_SECRET": "wheel-test-" * 4}
    environ |= {"RINGBACK_ALLOW_EPHEMERAL": "true"}  # the temporary folder may lie in memory
    process = subprocess.Popen([str(Path(python).with_name("ringback")), "serve"], cwd=folder, env=environ)
    try:
        assert _ready(port), "the installed wheel did not become ready"
    finally:
        process.terminate()
    assert process.wait(20) == 0, f"ringback serve ended with {process.returncode}"


def _ready(port: int) -> bool:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                return bool(json.load(answer)["ready"])
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    return False


if __name__ == "__main__":
    main()

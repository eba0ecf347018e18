"""The sandbox as a process: media, control endpoints, start, stop, and a port in use."""

import asyncio
import os
import signal
import socket
import threading

import httpx
import pytest

from ringback.sandbox import SandboxConfig, exports, run, running, serve
from ringback.sandbox.server import _listen

from .conftest import MODEL, Receiver, Sandbox, Start

QUICK = SandboxConfig(port=0, delay_seconds=(0.01, 0.01))


async def test_media_is_real_and_served_in_ranges(sandbox: Sandbox) -> None:
    """The finished video is an MP4 with a length and ranges, the sample image a PNG."""
    url = (await sandbox.qingbo(prefer="wait=5")).json()["result"]["videos"][0]["url"][0]
    whole = await sandbox.client.get(url)
    assert (whole.headers["content-type"], whole.content[4:8]) == ("video/mp4", b"ftyp")
    assert int(whole.headers["content-length"]) == len(whole.content) < 20_000
    part = await sandbox.client.get(url, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    rest = await sandbox.client.get(url, headers={"Range": "bytes=4-", "If-Range": whole.headers["etag"]})
    assert rest.content == whole.content[4:]
    assert rest.headers["content-range"] == f"bytes 4-{len(whole.content) - 1}/{len(whole.content)}"
    changed = await sandbox.client.get(url, headers={"Range": "bytes=4-7", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, whole.content)
    assert (await sandbox.client.get(url, headers={"Range": "bytes=99999-"})).status_code == 416
    assert whole.content.startswith((await sandbox.client.get("/media/sample.mp4")).content)
    assert (await sandbox.client.get("/media/sample.png")).content.startswith(b"\x89PNG")


def test_an_answer_does_not_wait_for_its_readers_word() -> None:
    """Its head and its body are two writes; the second one leaves at once, and not up to 40 ms later."""
    with _listen(QUICK) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_every_task_has_a_video_of_its_own(sandbox: Sandbox) -> None:
    """So that whoever stores results can tell that none was mistaken for another."""
    shown = [(await sandbox.qingbo(prompt=f"take {n}", prefer="wait=5")).json() for n in range(2)]
    urls = [str(task["result"]["videos"][0]["url"][0]) for task in shown]
    first, second = [(await sandbox.client.get(url)).content for url in urls]
    assert (first != second, first.endswith(shown[0]["task_id"].encode())) == (True, True)


async def test_a_reapi_video_is_served(sandbox: Sandbox) -> None:
    """A video URL of reAPI works although it holds the bare id."""
    task_id = (await sandbox.reapi()).json()["id"]
    await sandbox.idle()
    url = (await sandbox.reapi_task(task_id)).json()["output"]["video_urls"][0]
    assert (await sandbox.client.get(url)).status_code == 200


async def test_unfinished_media_is_404(start: Start) -> None:
    """There is no video before the end, nor of an unknown task."""
    async with start(delay_seconds=(5, 5)) as sandbox:
        task_id = (await sandbox.qingbo()).json()["task_id"]
        for name in (task_id, "unknown"):
            assert (await sandbox.client.get(f"/media/tasks/{name}/0.mp4")).status_code == 404


async def test_control_endpoints_show_the_books(sandbox: Sandbox) -> None:
    """Health, tasks and books are readable without a key."""
    assert (await sandbox.client.get("/_sandbox/healthz")).json() == {"status": "ok"}
    await sandbox.qingbo()
    await sandbox.reapi()
    await sandbox.idle()
    shown = await sandbox.tasks()
    assert [(task["provider"], task["status"], task["callback_url"]) for task in shown] == [
        ("qingbo", "completed", None),
        ("reapi", "completed", None),
    ]
    assert (await sandbox.books())["providers"]["reapi"]["by_status"] == {"completed": 1}


async def test_it_runs_inside_another_loop() -> None:
    """`running` serves on a free port for the length of a block, and then no more."""
    async with running(QUICK) as url, httpx.AsyncClient(base_url=url) as client:
        headers = {"Authorization": "Bearer sk-sandbox"}
        answer = await client.post("/v1/tasks", headers=headers, json={"model": MODEL, "prompt": "x"})
        assert answer.status_code == 200
    async with httpx.AsyncClient(base_url=url) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/_sandbox/healthz")


async def test_stopping_does_not_wait_for_a_hung_response(receiver: Receiver) -> None:
    """A response held back by submit_timeout is let go when the server stops."""
    async with httpx.AsyncClient() as client:
        async with running(QUICK) as url:
            body = {"model": MODEL, "prompt": "x [fault:submit_timeout]", "callback_url": receiver.url()}
            headers = {"Authorization": "Bearer sk-sandbox"}
            hanging = asyncio.create_task(client.post(f"{url}/v1/tasks", headers=headers, json=body))
            await receiver.arrived.wait()
            start = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - start < 1.5
        assert (await hanging).status_code == 200


async def test_a_port_in_use_is_an_oserror() -> None:
    """A second server on the same port fails at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = SandboxConfig(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await serve(config)
        with pytest.raises(OSError, match="in use"):
            async with running(config):
                pytest.fail("it must not start")


def test_run_says_that_the_port_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """`run` turns a port in use into one clear line and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(SandboxConfig(port=port)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in error


def test_run_says_that_a_host_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """A host name that does not resolve is one clear line as well."""
    assert run(SandboxConfig(host="nowhere.invalid", port=0)) == 1
    assert "cannot listen on nowhere.invalid port 0: " in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])  # noqa: S104 - listening everywhere is the case tested
def test_run_serves_until_a_signal(capsys: pytest.CaptureFixture[str], number: signal.Signals, host: str) -> None:
    """`run` prints what to export, serves, and ends with 0 on Ctrl-C or SIGTERM."""
    with socket.create_server(("::1" if ":" in host else "127.0.0.1", 0), family=_family(host)) as free:
        port = free.getsockname()[1]
    url = f"http://[::1]:{port}" if ":" in host else f"http://127.0.0.1:{port}"
    stopper = threading.Thread(target=_stop_when_healthy, args=(url, number))
    stopper.start()
    config = SandboxConfig(host=host, port=port)
    assert run(config) == 0
    stopper.join()
    printed = capsys.readouterr().out
    assert f"export RINGBACK_QINGBO_BASE_URL={url}/v1\n" in printed
    ours = {"RINGBACK_PUBLIC_URL": "http://127.0.0.1:8000", "RINGBACK_PUSH_DEADLINE_SECONDS": "10"}
    shown = [line.removeprefix("export ") for line in printed.splitlines() if not line.startswith("#")]
    assert dict(line.split("=") for line in shown) == exports(config, url) | ours


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _stop_when_healthy(url: str, number: signal.Signals) -> None:
    transport = httpx.HTTPTransport(retries=8)
    with httpx.Client(transport=transport) as client:
        client.get(f"{url}/_sandbox/healthz")
    os.kill(os.getpid(), number)

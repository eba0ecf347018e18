"""A network between `ringback` processes and a server: it can go silent and close nothing, be cut, and lead elsewhere.

What is silent keeps what was sent and passes it on later, as TCP does when a cable is put in again.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

LISTEN, NOTHING = b"LISTEN ringback\0", b"SELECT 1 AS ear\0"  # of the same length


class Network:
    """Listens on a port of this machine, and leads to another one."""

    def __init__(self, target: int, *, deaf: bool = False) -> None:
        self.target = target
        self._deaf = deaf  # as a pooler is that drops what was subscribed to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._there, self._back, self._open = threading.Event(), threading.Event(), threading.Event()
        self._ends: list[socket.socket] = []
        self._closed = False
        self.heal()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self.heal()
        self.cut()
        self._listener.close()

    @property
    def url(self) -> str:
        """The URL of a database at the other end."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def heal(self) -> None:
        """Let everything pass, what was held back first."""
        for gate in (self._there, self._back, self._open):
            gate.set()

    def silence(self, *, there: bool = True, back: bool = True) -> None:
        """Let nothing pass in these directions, and close nothing."""
        for gate, silent in ((self._there, there), (self._back, back)):
            if silent:
                gate.clear()

    def refuse(self) -> None:
        """Cut all connections, and each new one at once."""
        self._open.clear()
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed:
                near, _ = self._listener.accept()
                threading.Thread(target=self._lead, args=(near,), daemon=True).start()

    def _lead(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            if not self._open.is_set():
                return
            self._ends.append(near)
            with socket.create_connection(("127.0.0.1", self.target)) as far:
                self._ends.append(far)
                answers = threading.Thread(target=self._pass, args=(far, near, self._back), daemon=True)
                answers.start()
                self._pass(near, far, self._there)
                answers.join()

    def _pass(self, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                gate.wait()
                sink.sendall(data.replace(LISTEN, NOTHING) if self._deaf else data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

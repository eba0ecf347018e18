"""Sets up a process of our own for many small requests; measured with bench/ingest. Never called where we are mounted.

Called by `ringback.cli` and `receiver.asgi`, once everything is imported.
"""

import gc
import sys


def tune() -> None:
    """Spare the garbage collector what lives as long as the process, and SQLite's thread its waits."""
    # What start-up made stays: a collection that walks through it again and again takes a fifth of the time under load.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    # SQLite's thread asks for the interpreter lock a dozen times per batch, and need not wait 5 ms each time.
    sys.setswitchinterval(0.0005)

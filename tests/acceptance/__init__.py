"""The product as its users run it: real processes, real sockets, signals, full disks. Run by `pytest -m slow`."""

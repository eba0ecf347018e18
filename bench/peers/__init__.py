"""Other tools doing the same work, each a command of its own, run by the Python of .venv/peers.

Never imported by the rest: they need packages that Ringback does not. `prepare FOLDER COUNT` fills a backlog;
`drain FOLDER SECONDS` takes a copy of it, works for so long at most, and prints as JSON what it did.
"""

"""Reproducible randomness: the same seed gives the same delays and the same faults.

Never a shared generator, whose order of use would depend on who asked first; each question gets its own.
"""

import random


def chance(seed: int, *about: object) -> random.Random:
    """Return the generator for one question, such as "the delay of qingbo's task 7"."""
    return random.Random(":".join(str(part) for part in (seed, *about)))  # noqa: S311 - reproducible, not secret

"""What `from ringback import …` gives, and what importing the package costs."""

import importlib
import subprocess
import sys

import pytest

import ringback
from ringback import errors


def test_all_is_sorted_and_complete() -> None:
    """`__all__` is in order, holds every error, and each of its names is there and is what its module defines."""
    assert ringback.__all__ == sorted(ringback.__all__)
    assert set(errors.__all__) < set(ringback.__all__) <= set(dir(ringback))
    for name in ringback.__all__:
        kind = getattr(ringback, name)
        assert getattr(importlib.import_module(kind.__module__), name) is kind


def test_unknown_name() -> None:
    """Any other name is missing, as in every module."""
    with pytest.raises(AttributeError, match="has no attribute 'Setings'"):
        assert ringback.Setings


def test_import_is_cheap() -> None:
    """Importing the package imports nothing but itself; the first name that is asked for brings its module."""
    code = "import sys, ringback; before = len([n for n in sys.modules if n.startswith('ringback')])"
    code += "; from ringback import Settings, Task; print(before, 'msgspec' in sys.modules, Settings.__module__)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", "True", "ringback.settings"]

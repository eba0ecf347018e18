"""What becomes of a record that could not be stored: it never can be, or it is to come again. Tells it in the log.

Only its own values have a record turned away for good: whoever sent it is told to give up. A bug of ours is no fault of
the record, which is stored once the bug is mended. What a database's own errors mean, each engine says.
"""

import msgspec
import structlog

from ringback.errors import LedgerError, LedgerRejected, LedgerUnavailable

log = structlog.get_logger("ringback.ledger")

# Of values that no database can hold: no text, a NUL in one, a number that is too large, nested too deep.
OF_VALUES = (ValueError, OverflowError, RecursionError)


def is_values_fault(error: BaseException) -> bool:
    """Tell whether an error of Python's is about the values of a record; to read what is stored already is not."""
    return isinstance(error, OF_VALUES) and not isinstance(error, msgspec.DecodeError)


def verdict(error: Exception) -> LedgerError:
    """Say what becomes of a record that an error of Python's kept from being stored."""
    return rejected(error) if is_values_fault(error) else failed(error)


def rejected(error: Exception) -> LedgerRejected:
    """Turn a record away for good. The error may quote it, so only its kind is told."""
    log.warning("ledger.rejected", error=type(error).__name__)
    return LedgerRejected(f"this record cannot be stored ({type(error).__name__})")


def failed(error: Exception) -> LedgerUnavailable:
    """Tell where a bug of ours is; the record is to come again."""
    log.error("ledger.failed", error=type(error).__name__, exc_info=error)
    return LedgerUnavailable(f"the ledger failed ({type(error).__name__})")

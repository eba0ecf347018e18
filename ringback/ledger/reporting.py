"""What `OperatorLedger.report` is asked: one class per question, each beside the answer that it has.

A new question is a class in a module of its own, a name here, an overload in the protocol, and an entry in each
engine's table of reports. Values only.
"""

from ringback.ledger.awaited import Awaited
from ringback.ledger.costs import Costs, Differing, Recount, Spending
from ringback.ledger.expectations import Expected, Pushes
from ringback.ledger.results import CountResults, ListResults

Ask = Awaited | Expected | Pushes | Costs | Spending | Recount | Differing | ListResults | CountResults

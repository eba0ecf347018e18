"""What happens before a callback: tasks are recorded, sent, and asked about where no push settles them.

async with Submitter(settings) as submitter:
    task = await submitter.submit("qingbo", prompt="A rainy night street under neon lights")
"""

from submitter.batch import Batch, Submitted
from submitter.client import Submitter
from submitter.plan import Plan
from submitter.poller import Poller

__all__ = ["Batch", "Plan", "Poller", "Submitted", "Submitter"]

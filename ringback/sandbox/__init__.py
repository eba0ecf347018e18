"""A stand-in provider: a local server that speaks qingbo's and reAPI's wire formats and commits faults on request.

Written from the providers' documents, not from our adapters, and importing nothing else of this project, so that
both sides cannot share one misunderstanding. The demo, the acceptance tests and `ringback sandbox` use it.
"""

from ringback.sandbox.app import create_sandbox
from ringback.sandbox.config import SandboxConfig
from ringback.sandbox.faults import FAULTS
from ringback.sandbox.server import exports, run, running, serve

__all__ = ["FAULTS", "SandboxConfig", "create_sandbox", "exports", "run", "running", "serve"]

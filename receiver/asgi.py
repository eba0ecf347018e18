"""The receiver, ready for any ASGI server or function adapter: `uvicorn --no-access-log receiver.asgi:app`.

Settings come from the environment. A server's own access log would hold the token that is in every callback URL.
"""

import gc
import sys

import structlog

from receiver.web.app import create_app
from ringback import logs
from ringback.settings import Settings

__all__ = ["app"]

_settings = Settings.from_environ()
if not structlog.is_configured():  # whoever embeds us may have set up logging already
    logs.configure(level=_settings.log_level, style=_settings.log_format, secrets=_settings.secret_values())
app = create_app(_settings)
# What was imported lives as long as the process; a collection that walks through it again and again takes a fifth of
# the time under load.
gc.freeze()
gc.set_threshold(20_000, 50, 100)
sys.setswitchinterval(0.0005)  # SQLite's thread asks for the interpreter lock a dozen times per batch

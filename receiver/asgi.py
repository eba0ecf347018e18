"""The receiver, ready for any ASGI server or function adapter: `uvicorn --no-access-log receiver.asgi:app`.

Settings come from the environment. A server's own access log would hold the token that is in every callback URL.
"""

import ringback.lean  # noqa: F401 -- before anything that imports structlog

# isort: split
import structlog

from receiver.web.app import create_app
from ringback import logs
from ringback.settings import Settings
from ringback.tuning import tune

__all__ = ["app"]

_settings = Settings.from_environ()
if not structlog.is_configured():  # whoever embeds us may have set up logging already
    logs.configure(level=_settings.log_level, style=_settings.log_format, secrets=_settings.secret_values())
app = create_app(_settings)
tune()

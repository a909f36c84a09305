"""The application for `faust -A stream.worker worker --without-web`, configured by environment variables alone.

``--without-web`` is important: the command line of Faust starts a web server without a password, whatever the
application configures. `vitalloom worker` has no such server.
"""

from runtime.config import load
from stream.config import WorkerConfig
from stream.engine.faust_app import build_app

app = build_app(load(WorkerConfig, None, env_prefix="VITALLOOM_WORKER"))

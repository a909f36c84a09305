"""What `faust -A stream.worker worker --without-web` runs: an app made of the environment alone.

The command line of Faust turns its web server on, whatever the app says, for everybody and without a password: hence
``--without-web``. `vitalloom worker` does not have one.
"""

from runtime.config import load
from stream.config import WorkerConfig
from stream.engine.faust_app import build_app

app = build_app(load(WorkerConfig, None, env_prefix="VITALLOOM_WORKER"))

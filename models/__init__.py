"""Small prediction models that complement the rules: model files, runtime, training and evaluation."""

import os

# onnxruntime sends usage data to its vendor unless this variable is set before the import. Only modules of this
# package import it, and Python runs this file before any of them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

"""Small models beside the rules: their artifacts and the light runtime that judges with them."""

import os

# onnxruntime sends usage data to its maker unless this is set before it is imported. Only modules of this package
# import it, and Python runs this file before any of them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

"""Which models can judge here. One that cannot be checked does not: then the rules judge alone, and say so."""

from pathlib import Path
from typing import Final

MANIFEST: Final = "manifest.json"


def judged_by(folder: Path | None) -> str:
    """What judges patients beside the rules, for heartbeats and screens.

    This version brings no model runtime, so whatever lies in the folder, the answer begins with "rules only".
    """
    if folder is None or not folder.is_dir() or not any(folder.glob(f"*/{MANIFEST}")):
        return "rules only (no model artifacts)"
    return "rules only (model artifacts found; this version has no runtime for them)"

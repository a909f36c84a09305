"""The generated files in this folder: writing them, and whether they are what the code makes."""

from pathlib import Path
from typing import Final

from dashboards.build import BOARDS, as_text, built
from dashboards.errors import Drifted
from dashboards.provisioning import TOKEN_FILE, files

HERE: Final = Path(__file__).parent


def wanted(bucket: str = "vitals", token_file: str = TOKEN_FILE) -> dict[str, str]:
    """Every generated file by its path below `dashboards/`."""
    return {
        **{f"grafana/{name}.json": as_text(built(name)) for name in BOARDS},
        **{f"provisioning/{name}": text for name, text in files(bucket, token_file).items()},
    }


def build(into: Path = HERE, bucket: str = "vitals", token_file: str = TOKEN_FILE) -> list[str]:
    """Write what is missing or different; which that was."""
    written = drift(into, bucket, token_file)
    for name, text in wanted(bucket, token_file).items():
        if name in written:
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return written


def check(into: Path = HERE, bucket: str = "vitals", token_file: str = TOKEN_FILE) -> None:
    """Raise Drifted if a file is not what the code makes, or is one too many."""
    names = drift(into, bucket, token_file)
    known = set(wanted(bucket, token_file))
    found = {
        path.relative_to(into).as_posix()
        for folder in ("grafana", "provisioning")
        for path in (into / folder).rglob("*")
        if path.is_file()
    }
    if names or found - known:
        raise Drifted(sorted({*names, *(found - known)}))


def drift(into: Path = HERE, bucket: str = "vitals", token_file: str = TOKEN_FILE) -> list[str]:
    """Files that are missing or different."""
    return [
        name
        for name, text in wanted(bucket, token_file).items()
        if not (into / name).is_file() or (into / name).read_text(encoding="utf-8") != text
    ]

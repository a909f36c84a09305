"""The generated files in this folder: write them, and check whether they are up to date."""

from pathlib import Path
from typing import Final

from dashboards.build import DASHBOARDS, as_text, dashboard_json
from dashboards.errors import FilesOutdated
from dashboards.provisioning import TOKEN_FILE, files

HERE: Final = Path(__file__).parent


def generated_files(bucket: str = "vitals", token_file: str = TOKEN_FILE, time_zone: str = "") -> dict[str, str]:
    """Content of every generated file, by its path below `dashboards/`.

    Args:
        time_zone: IANA name, in which dashboards show times; empty: that of the browser.
    """
    return {
        **{f"grafana/{name}.json": as_text(dashboard_json(name, time_zone)) for name in DASHBOARDS},
        **{f"provisioning/{name}": text for name, text in files(bucket, token_file).items()},
    }


def build(into: Path = HERE, bucket: str = "vitals", token_file: str = TOKEN_FILE) -> list[str]:
    """Write missing and outdated files; returns their names."""
    written = outdated(into, bucket, token_file)
    for name, text in generated_files(bucket, token_file).items():
        if name in written:
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return written


def check(into: Path = HERE, bucket: str = "vitals", token_file: str = TOKEN_FILE) -> None:
    """Raises FilesOutdated if a file is missing, outdated or superfluous."""
    names = outdated(into, bucket, token_file)
    known = set(generated_files(bucket, token_file))
    found = {
        path.relative_to(into).as_posix()
        for folder in ("grafana", "provisioning")
        for path in (into / folder).rglob("*")
        if path.is_file()
    }
    if names or found - known:
        raise FilesOutdated(sorted({*names, *(found - known)}))


def outdated(into: Path = HERE, bucket: str = "vitals", token_file: str = TOKEN_FILE) -> list[str]:
    """Names of missing and outdated files."""
    return [
        name
        for name, text in generated_files(bucket, token_file).items()
        if not (into / name).is_file() or (into / name).read_text(encoding="utf-8") != text
    ]

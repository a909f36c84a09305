"""A desk with an empty site, for every test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stream.site.registries import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.site.close()

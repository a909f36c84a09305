"""`docs/safety.md` says of every clock what the code does today."""

import pytest

from tests.clock_tables import PAGE, with_table


@pytest.mark.slow
def test_the_table_of_clocks_is_what_the_code_does() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert with_table(page) == page
    assert not any(word in page for word in ("NONE", "OTHER", "FALSE"))

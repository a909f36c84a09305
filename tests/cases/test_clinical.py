"""The clinical cases: what very ill patients, wrong units and damaged files lead to."""

from collections.abc import Iterator

import pytest

from tests.cases.__main__ import INPUTS, ROOT
from tests.cases.clinical import CASES, Case
from tests.cases.product import Product

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(not INPUTS.is_dir(), reason="the clinical cases are not beside this checkout"),
]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(ROOT, INPUTS) as one:
        yield one


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, product: Product) -> None:
    verdict = case.judge(product)

    assert verdict.right, f"{case.expected}; got: {verdict.got}"

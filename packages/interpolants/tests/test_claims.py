"""Every claim of this package, one test each."""

import pytest

from genpath.testing import claims_of
from genpath.testing.running import run_claim


@pytest.mark.parametrize("bound", claims_of("interpolants"), ids=str)
def test_claim(bound):
    run_claim(bound, fast=True, search=False).require()

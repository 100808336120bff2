"""Claims of the group "theory", one test each."""

import pytest

from genpath.testing.running import run_claim

from .claims_by_group import claims


@pytest.mark.parametrize("bound", claims("theory"), ids=str)
def test_claim(bound):
    run_claim(bound, fast=True, search=False).require()

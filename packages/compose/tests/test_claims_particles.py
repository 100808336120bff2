"""Claims of the group "particles", one test each."""

import pytest

from genpath.testing.running import run_claim

from .claims_by_group import claims


@pytest.mark.parametrize("bound", claims("particles"), ids=str)
def test_claim(bound):
    run_claim(bound, fast=True, search=False).require()

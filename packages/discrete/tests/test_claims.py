"""Every claim of the plugin holds on its fast sample sizes, and sees its planted faults."""

import pytest

from genpath.testing import claims_of, run_claim


@pytest.mark.parametrize("bound", claims_of("discrete"), ids=str)
def test_it_holds(bound):
    run_claim(bound, fast=True, search=False).require()

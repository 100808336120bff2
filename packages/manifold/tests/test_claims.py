"""Every claim of this package, with its controls."""

import pytest

from genpath.testing import claims_of, run_claim


@pytest.mark.parametrize("bound", claims_of("manifold"), ids=str)
def test_it_holds_and_its_controls_are_rejected(bound):
    run_claim(bound, fast=True, search=False).require()

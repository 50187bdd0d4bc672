"""The net that the attacks share: trained once."""

from __future__ import annotations

import pytest
from attacked_nets import Attacked, trained_on_digits


@pytest.fixture(scope="session")
def digits() -> Attacked:
    """Return a small convnet trained on scikit-learn's digits, and 120 test images."""
    return trained_on_digits()

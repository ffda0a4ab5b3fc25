"""What holds for the tests of the documentation."""

import pytest


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """What these tests open ends when it is collected, so nothing is counted after each of them."""

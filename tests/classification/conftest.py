import pytest
from quick import light_compilation


@pytest.fixture(scope="module", autouse=True)
def compiled_lightly():
    with light_compilation():
        yield

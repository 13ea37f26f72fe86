"""A run that is killed wherever it is ends as if nothing had happened; one kill is in tests/end_to_end, too."""

import pytest

from faults.kills import main


@pytest.mark.long
def test_runs_that_are_killed_twenty_times_end_as_they_would_have():
    main(20, "6")

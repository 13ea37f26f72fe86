import json

import numpy as np

from vitjax.checkpoints.published import from_published, to_published

from .comparison import compare, require_equal
from .families import run


def test_the_official_numbers_are_reproduced(golden_case, record_property):
    rows = compare(golden_case, run(golden_case))
    worst = max(rows, key=lambda row: row.ratio)
    record_property("golden", (golden_case.id, worst.name, worst.ratio))
    require_equal(golden_case, rows)


def test_every_published_name_has_a_place_and_comes_back(key_list):
    entries = json.loads(key_list.read_text())["state_dict"]
    state = {name: np.zeros(shape, dtype) for name, shape, dtype in entries}
    back = to_published(from_published(state))
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in state.items()}

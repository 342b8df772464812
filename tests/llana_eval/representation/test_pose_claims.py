"""Errors of poses modulo symmetries, and the table of them."""

import json
import math
from pathlib import Path

import pytest
import torch

from gmn_encoder.pose.rotations import multiply, quaternion_of_vector, random_rotations
from llana_eval.representation.pose_claims import Pair, Rows, errors_modulo, search_table

HALF_TURN = [0.0, 0.0, 0.0, 1.0]


def about_z(degrees):
    return quaternion_of_vector(torch.tensor([0.0, 0.0, math.radians(degrees)]))


def test_errors_count_from_the_nearest_symmetric_answer():
    true = random_rotations(1, torch.Generator().manual_seed(0))[0]
    found = multiply(true, about_z(178))
    none, two = {"answers": [], "axis": None}, {"answers": [HALF_TURN], "axis": None}
    assert errors_modulo(found[None], true, none).tolist() == pytest.approx([178], abs=0.1)
    assert errors_modulo(found[None], true, two).tolist() == pytest.approx([2], abs=0.1)
    # A symmetry of A comes before the turn, not after it.
    after = multiply(about_z(178), true)
    assert float(errors_modulo(after[None], true, two)) != pytest.approx(2, abs=0.1)


def test_a_round_object_has_no_error_about_its_axis():
    true = random_rotations(1, torch.Generator().manual_seed(1))[0]
    turned = multiply(true, about_z(57))
    found = errors_modulo(turned[None], true, {"answers": [], "axis": [0.0, 0.0, 1.0]})
    assert float(found) < 3  # places about the axis are 5 degrees apart


def test_a_pair_is_measured_once(tmp_path):
    asked = []

    def measure():
        asked.append(1)
        return {"error": 3.0}

    for _ in range(2):
        rows = Rows(tmp_path / "work" / "pairs.jsonl")
        assert rows.get("a", measure)["error"] == rows.get("a", measure)["error"] == 3
    assert len(asked) == 1 and json.loads((tmp_path / "work/pairs.jsonl").read_text())["key"] == "a"


def test_the_table_tells_symmetric_objects_and_families_apart(tmp_path):
    pairs, rows = [], Rows(tmp_path / "pairs.jsonl")
    for number, (second, error, asymmetric) in enumerate([("mlp", 1, True), ("hash", 5, True), ("hash", 40, False)]):
        pair = Pair("procedural", ("c", str(number)), ("mlp", second), (Path(), Path()), torch.zeros(4))
        row = {"error": error, "error_of_near_equal": error, "asymmetric": asymmetric}
        rows.get(pair.key, lambda row=row: row)
        pairs.append(pair)
    lines = {tuple(line[:3]): line[3:6] for line in search_table(pairs, rows).rows}
    assert lines["procedural", "asymmetric", "within"] == ("1", "1.0", "1.0")
    assert lines["procedural", "asymmetric", "across"] == ("1", "5.0", "5.0")
    assert lines["procedural", "all, modulo symmetry", "across"] == ("2", "22.5", "22.5")

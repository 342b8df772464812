"""``llana-gmn pose`` and ``llana-gmn align``."""

import json
from pathlib import Path

import pytest

from gmn_encoder import Nerf, PoseAnswer, save_nerf
from llana_gmn.commands import main

NERFS = Path(__file__).parents[2] / "llana_gmn/default/nerfs"
SOFA = sorted((NERFS / "hash/04256520").iterdir())[0]


def test_a_nerf_against_itself(capsys):
    assert main(["pose", str(SOFA), str(SOFA), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["quaternion"] == [1, 0, 0, 0] and told["mismatch"] == 0 and told["scale"] == 1


def test_two_families_for_people(capsys):
    other = NERFS / "triplane" / SOFA.parent.name / SOFA.name
    assert main(["pose", str(SOFA), str(other), "--similarity"]) == 0
    said = capsys.readouterr().out
    for part in ("rotation ", "quaternion", "(w, x, y, z)", "mismatch", "scale, shift", "standard error"):
        assert part in said


def test_nerfs_without_content_are_refused_in_a_sentence(tmp_path, capsys):
    nerf = Nerf.random("HASH-nano")
    save_nerf(Nerf(nerf.architecture, {key: 0 * value for key, value in nerf.tensors.items()}), tmp_path / "empty")
    assert main(["pose", str(SOFA), str(tmp_path / "empty")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "empty" in error and "expected an object" in error
    assert main(["pose", str(SOFA), str(tmp_path / "nothing")]) == 1


def test_align_writes_nerf_pose_and_picture(tmp_path, monkeypatch, capsys):
    asked = []

    def fitted(nerf, motion, out, **options):
        asked.append((motion, options["quality"]))
        return save_nerf(nerf, Path(out) / "hash/class/id").parent

    monkeypatch.setattr("gmn_encoder.fitting.aligned.fit_moved", fitted)
    monkeypatch.setattr("gmn_encoder.estimate_pose", lambda *_, **__: _known())
    assert main(["align", str(SOFA), str(SOFA), "--out", str(tmp_path), "--quality", "nano"]) == 0
    assert asked == [(_known(), "nano")]
    assert json.loads((tmp_path / "pose.json").read_text())["quaternion"] == [0, 1, 0, 0]
    assert (tmp_path / "alignment.png").stat().st_size and "A in B's frame" in capsys.readouterr().out


def _known():
    from gmn_encoder import PoseEstimate

    return PoseEstimate((0.0, 1.0, 0.0, 0.0), 0.1, runner_up=PoseAnswer((1.0, 0.0, 0.0, 0.0), 0.2))


@pytest.mark.parametrize("name", ["pose", "align"])
def test_help_has_a_line_to_copy(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert f"llana-gmn {name}" in capsys.readouterr().out.split("example:")[1]

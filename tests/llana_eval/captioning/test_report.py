from __future__ import annotations

import pytest

from llana_eval.captioning.answer_page import spread, write_gallery
from llana_eval.captioning.report import captioning_tables, published_tables, write_tables
from llana_eval.captioning.tasks import TASKS, load_task

NASTY = '<script>alert("x")</script> & a|b_c 50% \\ {z}'


def test_published_rows_as_in_the_paper():
    """Spot checks, typed anew from the paper; the two kinds of tables must agree in their common columns."""
    tables = {table["table"]: table for table in published_tables()}
    assert sorted(tables) == [*range(8, 14), *range(19, 25)]
    assert tables[19]["rows"][1] == {
        "method": "L_R+C, Ballerini et al.",
        "test": "MLP",
        "scores": [67.1, 68.9, 32.7, 35.1, 36.1],
    }
    assert tables[21]["rows"][2]["scores"] == [80.7, 81.3, 45.7, 52.9, 49.8]
    assert tables[23]["rows"][0]["scores"] == [77.4, 79.8, 41.3, 36.2, 32.4]
    for short in range(8, 14):
        assert tables[short]["title"] == tables[short + 11]["title"]
        for row, extended in zip(tables[short]["rows"], tables[short + 11]["rows"], strict=True):
            assert row["scores"] == extended["scores"][:2]


def test_results_stand_beside_the_published_rows(tmp_path):
    scores = {"bleu-1": 12.34, "sbert_similarity": 56.78}
    tables = captioning_tables("Brief", [19, 11], method="mine", test="hash", scores=scores, note="protocol full")
    names = ["Method", "Test dataset", "S-BERT", "SimCSE", "BLEU-1", "ROUGE-L", "METEOR"]
    assert [column.name for column in tables[0].columns] == names
    assert tables[0].rows[-1] == ("mine", "hash", 56.78, None, 12.34, None, None)
    assert tables[1].rows[0] == ("LLaNA", "MLP", 68.6, 70.5)
    assert tables[0].text().splitlines()[-1].split()[1:] == ["hash", "56.8", "–", "12.3", "–", "–"]  # noqa: RUF001
    assert "Table 11 of the paper; protocol full" in tables[1].title
    (own,) = captioning_tables("Multi", [], method="mine", test="hash", scores=scores)
    assert [column.name for column in own.columns[2:]] == ["S-BERT", "BLEU-1"]
    paths = write_tables(tables, tmp_path / "out")
    assert [path.name for path in paths] == ["out.md", "out.tex", "out.html"]
    assert paths[2].read_text().count("<table>") == 2


def test_tasks_are_data():
    tasks = [load_task(name) for name in TASKS]
    assert [task.conversation_type for task in tasks] == list(TASKS)
    assert [task.name for task in tasks if task.dialogue] == ["multi_round"]
    known = {table["table"]: table["task"] for table in published_tables()}
    for task in tasks:
        assert all(known[number] == task.name for number in task.published_tables)
    assert sorted(number for task in tasks for number in task.published_tables) == sorted(known)
    with pytest.raises(ValueError, match="task 'x' is unknown"):
        load_task("x")


def test_gallery_escapes_and_needs_nothing_else(tmp_path):
    from gmn_encoder.nerfs.files import save_nerf
    from gmn_encoder.nerfs.record import Nerf

    save_nerf(Nerf.random("MLP-32H"), tmp_path / "nerf")
    result = dict.fromkeys(("object_id", "question", "ground_truth", "model_output"), NASTY) | {
        "scores": {"bleu-1": 1.25}
    }
    nerfs = [tmp_path / "nerf", None, tmp_path / "none"]
    errors = []
    path = tmp_path / "g.html"
    write_gallery(path, NASTY, [result] * 3, nerfs, on_error=errors.append)
    page = path.read_text()
    assert "<script" not in page
    assert page.count("data:image/png;base64,iVBOR") == 1
    assert page.count("no view") == 2
    assert page.count("BLEU-1 1.2") == 3
    assert "http" not in page
    assert len(errors) == 1 and "none" in str(errors[0])
    with pytest.raises(ValueError, match="2 NeRFs came with 3 results"):
        write_gallery(path, "t", [result] * 3, [None] * 2)


def test_spread():
    assert spread(10, 3) == [0, 3, 6]
    assert spread(2, 5) == [0, 1]
    assert spread(5, 0) == []
    with pytest.raises(ValueError, match="must not be negative"):
        spread(5, -1)

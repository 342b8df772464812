from __future__ import annotations

import pytest

from llana_eval.captioning.tables import captioning_tables
from llana_eval.captioning.tasks import TASKS, load_task
from llana_eval.pages import write_tables
from llana_eval.tables import published_table

SHORT = range(8, 14)
TITLES = {
    "brief_description": "NeRF brief captioning",
    "detailed_description": "NeRF detailed captioning",
    "single_round": "NeRF single-round Q&A",
}


def test_published_rows_as_in_the_paper():
    """Spot checks, typed anew from the paper; the two kinds of tables must agree in their common columns."""
    assert published_table(19).rows[1] == ("L_R+C, Ballerini et al.", "MLP", 67.1, 68.9, 32.7, 35.1, 36.1)
    assert published_table(21).rows[2][2:] == (80.7, 81.3, 45.7, 52.9, 49.8)
    assert published_table(23).rows[0][2:] == (77.4, 79.8, 41.3, 36.2, 32.4)
    for number in SHORT:
        short, extended = published_table(number), published_table(number + 11)
        assert short.title.partition(": ")[2] == extended.title.partition(": ")[2]
        assert [row[:4] for row in extended.rows] == list(short.rows)
        assert extended.columns[:4] == short.columns


def test_results_stand_beside_the_published_rows(tmp_path):
    scores = {"bleu-1": 12.34, "sbert_similarity": 56.78}
    tables = captioning_tables("Brief", [19, 11], method="mine", test="hash", scores=scores, note="protocol full")
    names = ["Method", "Test dataset", "S-BERT", "SimCSE", "BLEU-1", "ROUGE-L", "METEOR"]
    assert [column.name for column in tables[0].columns] == names
    assert tables[0].rows[-1] == ("mine", "hash", 56.78, None, 12.34, None, None)
    assert tables[1].rows[0] == ("LLaNA", "MLP", 68.6, 70.5)
    assert tables[0].text().splitlines()[-2].split()[1:] == ["hash", "56.8", "–", "12.3", "–", "–"]  # noqa: RUF001
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
    for task in tasks:
        for number in task.published_tables:
            assert published_table(number).title.startswith(f"Table {number}: {TITLES[task.name]} (")
    assert sorted(number for task in tasks for number in task.published_tables) == [*SHORT, *range(19, 25)]
    with pytest.raises(ValueError, match="task 'x' is unknown"):
        load_task("x")

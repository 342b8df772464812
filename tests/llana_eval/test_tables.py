import json

import pytest

from llana_eval.tables import Column, Table, published_numbers, published_table, save_table

TABLE = Table(
    "Accuracy & more",
    ["Method", "k", Column("a|b", digits=1, best="max"), Column("loss_1", best="min")],
    [["L_R", 1, 90.04, 0.5], ["L_C", 1, 89.96, None], ["x", 5, 1.0, 2.25], ["y", 5, 0.5, 2.0]],
    note="50% of <it>",
    group_by="k",
)


def test_markdown_by_hand():
    # 90.04 and 89.96 both read 90.0: what looks equal is equally bold. The rest is the best of its k.
    assert TABLE.markdown() == (
        "**Accuracy & more**\n\n"
        "| Method | k | a\\|b | loss_1 |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| L_R | 1 | **90.0** | **0.50** |\n"
        "| L_C | 1 | **90.0** | \u2013 |\n"
        "| x | 5 | **1.0** | 2.25 |\n"
        "| y | 5 | 0.5 | **2.00** |\n"
        "\n50% of <it>\n"
    )


def test_latex_by_hand():
    lines = TABLE.latex().splitlines()
    assert lines[2:4] == [r"  \caption{Accuracy \& more \\ 50\% of <it>}", r"  \begin{tabular}{lrrr}"]
    assert lines[5] == r"  Method & k & a|b & loss\_1 \\"
    assert lines[7] == r"  L\_R & 1 & \textbf{90.0} & \textbf{0.50} \\"
    assert lines[8] == r"  L\_C & 1 & \textbf{90.0} & -- \\"


def test_html_escapes_and_parses():
    import xml.etree.ElementTree as ElementTree

    root = ElementTree.fromstring(f"<div>{TABLE.html()}</div>")
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert rows[0] == ["Method", "k", "a|b", "loss_1"] and rows[4] == ["y", "5", "0.5", "2.00"]
    assert [b.text for b in root.iter("b")] == ["90.0", "0.50", "90.0", "1.0", "2.00"]
    assert root.find("p").text == "50% of <it>"


def test_json_round_trip_keeps_every_digit():
    again = Table.from_dict(json.loads(json.dumps(TABLE.to_dict())))
    assert again == TABLE and again.rows[0][2] == 90.04


def test_published_rows_stand_above_by_the_names_of_columns():
    mine = Table("mine", ["Method", Column("TRI", 1, "max"), Column("Accuracy"), "k"], [["ours", 95.0, 1.0, 1]])
    both = mine.with_rows(Table("theirs", ["Method", "MLP", "TRI"], [["L_R", 1.5, 94.0]], note="printed"))
    assert both.rows == (("L_R", 94.0, None, None), ("ours", 95.0, 1.0, 1))
    assert both.note == "With the rows of theirs. printed" and "**95.0**" in both.markdown()


def test_published_rows_stand_in_their_groups():
    mine = Table("mine", ["Method", "k", "a"], [["ours", 5, 1.0], ["ours", 1, 2.0]], group_by="k")
    theirs = Table("theirs", ["Method", "k", "a"], [["L_R", 1, 3.0], ["L_R", 5, 4.0]], group_by="k")
    assert [row[:2] for row in mine.with_rows(theirs).rows] == [("L_R", 1), ("ours", 1), ("L_R", 5), ("ours", 5)]


def test_saved_by_suffix(tmp_path):
    for suffix, start in ((".md", "**Accuracy"), (".tex", "\\begin{table}"), (".html", "<table>")):
        save_table(TABLE, tmp_path / f"t{suffix}")
        assert (tmp_path / f"t{suffix}").read_text(encoding="utf-8").startswith(start)
    save_table(TABLE, tmp_path / "t.json", details={"seed": 3})
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["seed"] == 3 and Table.from_dict(content["table"]) == TABLE
    with pytest.raises(ValueError, match=r"t.csv: unknown kind '.csv' for a table; expected .md"):
        save_table(TABLE, tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table("t", ["a"], [[1, 2]]), "row 1 of table 't' has 2 cells; expected 1"),
        (lambda: Table("t", ["a"], [[1.0], [float("nan")]]), "row 2 of table 't' has nan under 'a'"),
        (lambda: Table("t", ["a", "a"], []), "two columns 'a'"),
        (lambda: Table("t", ["a"], [], group_by="b"), "grouped by 'b'"),
        (lambda: Column("a", digits=-1), "-1 digits"),
        (lambda: Column("a", best="high"), "best='high'"),
        (lambda: Table.from_dict({"title": "t"}), "no table: 'columns'"),
        (lambda: Table.from_dict([]), "no table"),
        (lambda: published_table(1), "table 1 of the paper is not kept here; expected one of"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def rows_of(number):
    return {tuple(row[:2]): dict(zip([c.name for c in published_table(number).columns[2:]], row[2:], strict=True))
            for row in published_table(number).rows}  # fmt: skip


@pytest.mark.parametrize(("short", "extended"), [(2, 15), (4, 16), (6, 17), (7, 18)])
def test_the_papers_extended_tables_repeat_the_short_ones(short, extended):
    long = rows_of(extended)
    for key, values in rows_of(short).items():
        assert {name: long[key][name] for name in values} == values
    assert {method for method, _ in long} - {method for method, _ in rows_of(short)} == {"L_C"}


@pytest.mark.parametrize(("number", "gallery"), [(6, 3961), (7, 1884), (17, 3961), (18, 1884)])
def test_the_papers_random_rows_are_equation_5(number, gallery):
    for (method, k), values in rows_of(number).items():
        if method == "RANDOM":
            for name, value in values.items():
                assert value == round(100 * k / (gallery * (3 if name == "ALL/ALL" else 1)), 2)


def test_figures_as_printed():
    """Read off the paper a second time, one or more from every table."""
    assert rows_of(2)["L_R+C", "TRI"] == {"MLP": 77.8, "TRI": 91.0, "HASH": 66.5}
    assert rows_of(3)["Cardace et al.", "TRI"] == {"Accuracy": 93.1}
    assert rows_of(4)["L_R+C", "ALL"]["TRI-16W"] == 72.1
    assert rows_of(5)["Cardace et al.", "TRI"]["TRI-8C"] == 68.6 and rows_of(5)["nf2vec", "MLP"]["MLP-2L"] == 63.7
    assert rows_of(6)["L_R+C", 10]["HASH/TRI"] == 36.31 and rows_of(7)["L_R", 5]["TRI/HASH"] == 1.91
    assert rows_of(15)["L_C", "HASH"] == {"MLP": 65.4, "TRI": 63.7, "HASH": 64.6}
    assert rows_of(16)["L_C", "HASH"]["HASH-11T"] == 25.2
    assert rows_of(17)["L_R+C", 1]["ALL/ALL"] == 5.25 and rows_of(18)["L_C", 10]["MLP/TRI"] == 19.53
    assert {2, 3, 4, 5, 6, 7, 15, 16, 17, 18} <= set(published_numbers())

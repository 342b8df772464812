"""The benchmark from data to tables, with a tiny model on random NeRFs of procedural objects."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch

from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects import generate_dataset, write_texts
from llana_eval.captioning.benchmark import answer, load_benchmark, result_records
from llana_eval.captioning.nerf_sources import nerf_sources
from llana_eval.captioning.tasks import load_task
from llana_gmn import ChatSession
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.commands import main
from llana_gmn.prompts.chat_template import SYSTEM_PROMPT

OBJECTS = 4
METRICS = ["--metrics", "bleu-1,rouge-l,sbert_similarity"]


@pytest.fixture(scope="module")
def tiny():
    return tiny_model()


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny):
    """What a fit writes, with random weights of two families, and a saved model."""
    root = tmp_path_factory.mktemp("bench")
    things = list(generate_dataset(OBJECTS))
    write_texts(things, root / "data" / "language" / "test" / "texts")
    for seed, thing in enumerate(things):
        nerfs = {"hash": Nerf.random("HASH-11T", seed=seed), "mlp": Nerf.random("MLP-32H", seed=seed)}
        for family, nerf in nerfs.items():
            save_nerf(nerf, root / "data" / family / thing.class_id / thing.object_id)
    for part in tiny:
        part.save_pretrained(root / "model")
    return root


def arguments(data, minilm, out, task="brief_description", *more):
    return [
        *("evaluate", "--model", str(data / "model"), "--data", str(data / "data"), "--task", task, "--out", str(out)),
        *("--sbert-model", minilm, *METRICS, "--max-new-tokens", "5", "--gallery", "0", "--resamples", "20"),
        *(more or ("--family", "hash")),
    ]


def test_evaluate_from_questions_to_tables(data, minilm, tmp_path, capsys, tiny):
    assert main([*arguments(data, minilm, tmp_path), "--gallery", "2"]) == 0
    out = capsys.readouterr().out
    assert "brief_description_hash.json: 4 records, protocol full" in out
    assert "beside Table 19 of the paper" in out
    records = json.loads((tmp_path / "brief_description_hash.json").read_text())
    assert [list(record) for record in records] == [["object_id", "question", "ground_truth", "model_output"]] * OBJECTS
    texts = json.loads((data / "data/language/test/texts/conversations_brief.json").read_text())
    for record, entry in zip(records, texts, strict=True):
        question, reference = (message["value"] for message in entry["conversations"])
        assert record["question"] == question.removeprefix("<point>\n")
        assert record["ground_truth"] == reference
        session = ChatSession(*tiny, max_new_tokens=5)
        (nerf,) = (data / "data" / "hash").glob(f"*/{record['object_id']}")
        session.add_nerf(nerf)
        assert record["model_output"] == session.ask(record["question"]).strip()
    scored = json.loads((tmp_path / "brief_description_hash_evaluated_traditional.json").read_text())
    assert set(scored["overall_scores"]) == {"bleu-1", "rouge-l", "sbert_similarity"}
    assert all(re.fullmatch(r"\d+\.\d{4}", value) for value in scored["overall_scores"].values())
    run = scored["run"]
    assert (run["seed"], run["do_sample"], run["max_new_tokens"], run["nerfs"]) == (0, False, 5, "hash")
    assert scored["settings"]["bootstrap"]["resamples"] == 20
    page = (tmp_path / "brief_description_hash_gallery.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        f"brief_description_hash{suffix}" for suffix in (".md", ".tex", ".html", ".jsonl", ".jsonl.settings.json")
    }
    assert not any(".part-" in name for name in names)


def test_evaluate_continues(data, minilm, tmp_path, capsys, monkeypatch):
    assert main(arguments(data, minilm, tmp_path)) == 0
    path = tmp_path / "brief_description_hash.jsonl"
    lines = path.read_text().splitlines()
    kept = {**json.loads(lines[1]), "answers": ["kept from before"]}
    path.write_text(json.dumps(kept) + "\n")
    assert main(arguments(data, minilm, tmp_path)) == 0
    again = [json.loads(line) for line in path.read_text().splitlines()]
    assert [each["name"] for each in again] == [json.loads(line)["name"] for line in lines]
    assert again[1] == kept
    assert [each for i, each in enumerate(again) if i != 1] == [
        json.loads(line) for i, line in enumerate(lines) if i != 1
    ]
    assert main([*arguments(data, minilm, tmp_path), "--seed", "1"]) == 1
    assert "was begun with seed 0, now 1" in capsys.readouterr().err
    monkeypatch.setattr(
        "llana_gmn.checkpoints.loading.load_model", lambda *a, **k: pytest.fail("nothing is left to ask")
    )
    assert main(arguments(data, minilm, tmp_path)) == 0


def test_a_nerf_that_changed_and_a_question_that_changed_are_asked_again(data, minilm, tmp_path, capsys):
    copy = tmp_path / "data"
    shutil.copytree(data / "data", copy)
    command = arguments(data, minilm, tmp_path / "out")
    command[command.index("--data") + 1] = str(copy)
    assert main(command) == 0
    path = tmp_path / "out" / "brief_description_hash.jsonl"
    before = [json.loads(line) for line in path.read_text().splitlines()]
    save_nerf(Nerf.random("HASH-11T", seed=99), before[1]["nerf"])
    texts = copy / "language/test/texts/conversations_brief.json"
    entries = json.loads(texts.read_text())
    entries[2]["conversations"][0]["value"] = "<point>\nWhat on earth is this?"
    texts.write_text(json.dumps(entries))
    capsys.readouterr()
    assert main(command) == 0
    assert "brief_description_hash.jsonl: 2 of 4 had changed and are done again" in capsys.readouterr().err
    after = [json.loads(line) for line in path.read_text().splitlines()]
    assert [i for i in range(OBJECTS) if after[i] != before[i]] == [1, 2]
    assert after[1]["sha256"] != before[1]["sha256"] and after[2]["questions"] == ["What on earth is this?"]
    assert json.loads(path.with_suffix(".json").read_text())[2]["question"] == "What on earth is this?"


def test_a_nerf_is_encoded_once_for_all_conversations_about_it(data, minilm, tmp_path, monkeypatch):
    """Single-round questions come by several to an object, multi-round ones turn by turn."""
    from gmn_encoder import GmnEncoder

    encoded = []
    encode = GmnEncoder.encode
    monkeypatch.setattr(
        GmnEncoder, "encode", lambda self, nerfs, **options: encoded.extend(nerfs) or encode(self, nerfs, **options)
    )
    for task, questions in (("single_round", 12), ("multi_round", 12)):
        encoded.clear()
        assert main(arguments(data, minilm, tmp_path, task)) == 0
        answered = [json.loads(line) for line in (tmp_path / f"{task}_hash.jsonl").read_text().splitlines()]
        assert sum(len(each["answers"]) for each in answered) == questions
        assert len(encoded) == OBJECTS


def test_multi_round_in_both_protocols(data, tiny):
    task = load_task("multi_round")
    full = load_benchmark(task, data / "data", family="mlp")
    assert {len(item.questions) for item in full.items} == {3}
    answers = {item.name: said for item, said in answer(*tiny, full.items, max_new_tokens=4)}
    records = result_records(full, answers)
    assert len(records) == 3 * OBJECTS
    item = full.items[1]
    session = ChatSession(*tiny, max_new_tokens=4)
    session.add_nerf(item.nerf)
    assert [record["model_output"] for record in records[3:6]] == [session.ask(q).strip() for q in item.questions]

    llana = load_benchmark(task, data / "data", family="mlp", protocol="llana")
    assert {len(item.questions) for item in llana.items} == {1}
    given = {item.name: said for item, said in answer(*tiny, llana.items, max_new_tokens=4)}
    published = result_records(llana, given)
    assert [record["ground_truth"] for record in published] == [record["ground_truth"] for record in records]
    for start in range(0, len(published), 3):
        assert {record["model_output"] for record in published[start : start + 3]} == {records[start]["model_output"]}
    assert result_records(full, {}) == []


def test_protocol_llana_asks_the_question_as_it_stands(data, tiny, tmp_path):
    copy = shutil.copytree(data / "data", tmp_path / "data")
    texts = copy / "language/test/texts/conversations_brief.json"
    entries = json.loads(texts.read_text())
    entries[0]["conversations"][0]["value"] = "<point>\n  What is this? \n"
    entries[1]["conversations"][0]["value"] = "Is <point>\nlike <point>?"
    texts.write_text(json.dumps(entries))
    task = load_task("brief_description")
    found = {protocol: load_benchmark(task, copy, family="mlp", protocol=protocol) for protocol in ("llana", "full")}
    asked = {protocol: benchmark.items[0].questions for protocol, benchmark in found.items()}
    assert asked == {"llana": ("  What is this? \n",), "full": ("What is this?",)}
    answers = {item.name: said for item, said in answer(*tiny, found["llana"].items[:2], max_new_tokens=4)}
    first, second = result_records(found["llana"], answers)
    assert (first["question"], second["question"]) == ("What is this?", "Is like <point>?")
    model, processor = tiny
    prompt = f"{SYSTEM_PROMPT} USER: {entries[1]['conversations'][0]['value']} ASSISTANT:"
    inputs = processor(nerfs=[found["llana"].items[1].nerf] * 2, text=[prompt], return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert processor.post_process(ids, inputs) == [second["model_output"]]


def test_the_published_sampling_is_reached_and_recorded(data, minilm, tmp_path, capsys, monkeypatch):
    from llana_gmn import LlanaGmnForConditionalGeneration

    generated = []
    generate = LlanaGmnForConditionalGeneration.generate
    monkeypatch.setattr(
        LlanaGmnForConditionalGeneration,
        "generate",
        lambda self, **options: generated.append(options) or generate(self, **options),
    )
    command = [*arguments(data, minilm, tmp_path), "--protocol", "llana"]
    # docs/released_format.md#generation
    published = {"do_sample": True, "temperature": 1.0, "top_k": 50, "top_p": 0.95}
    assert main([*command, "--temperature", "1", "--top-k", "50", "--top-p", "0.95"]) == 0
    assert generated and all(published.items() <= options.items() for options in generated)
    run = json.loads((tmp_path / "brief_description_hash.jsonl.settings.json").read_text())
    scored = json.loads((tmp_path / "brief_description_hash_evaluated_traditional.json.settings.json").read_text())
    assert published.items() <= run.items() and published.items() <= scored["run"].items()
    capsys.readouterr()
    for refused in (
        ["--top-k", "50"],
        ["--top-p", "0.9"],
        ["--temperature", "1", "--top-p", "0"],
        ["--temperature", "-1"],
    ):
        assert main([*command, *refused]) == 1
    err = capsys.readouterr().err
    assert err.count("set --temperature too") == 2 and err.count("expected numbers from 0 on") == 2


def test_embeddings_in_place_of_nerfs(data, minilm, tmp_path, tiny, capsys):
    vecs = tmp_path / "vecs"
    vecs.mkdir()
    for path in sorted((data / "data" / "hash").glob("*/*")):
        from gmn_encoder import load_nerf

        np.save(vecs / f"{path.name}.npy", tiny[0].encode([load_nerf(path)])[0].numpy())
    out = tmp_path / "out"
    assert main(arguments(data, minilm, out, "brief_description", "--embeddings", str(vecs))) == 0
    assert main(arguments(data, minilm, out)) == 0
    first, second = (json.loads((out / f"brief_description_{name}.json").read_text()) for name in ("vecs", "hash"))
    assert first == second
    assert not list(out.glob("*_gallery.html"))
    assert capsys.readouterr().err.count("4 records") == 2


def test_what_is_missing_is_named_and_the_rest_is_done(data, minilm, tmp_path, capsys):
    copy = tmp_path / "data"
    shutil.copytree(data / "data", copy)
    first, second, *_ = sorted((copy / "mlp").glob("*/*"))
    shutil.rmtree(first)
    (second / "nerf_weights.pth").write_bytes(b"broken")
    texts = copy / "language/test/texts/conversations_brief.json"
    entries = json.loads(texts.read_text())
    entries[2]["conversations"].pop()
    texts.write_text(json.dumps(entries))
    command = arguments(data, minilm, tmp_path / "out", "brief_description", "--family", "mlp")
    command[command.index("--data") + 1] = str(copy)
    gone, bad, odd = first.name, second.name, entries[2]["object_id"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert f"object {gone}: has a reference but no NeRF in mlp (1 conversations left out)" in err or gone == odd
    assert "nerf_weights.pth" in err or bad == odd
    assert "entry 2: has 1 messages; expected an answer to every question" in err
    records = json.loads((tmp_path / "out" / "brief_description_mlp.json").read_text())
    assert {record["object_id"] for record in records} == {e["object_id"] for e in entries} - {gone, bad, odd}


def test_scoring_trouble_shows_before_any_answer(data, minilm, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("llana_gmn.checkpoints.loading.load_model", lambda *a, **k: pytest.fail("too late"))
    command = arguments(data, str(tmp_path / "none"), tmp_path)
    assert main(command) == 1
    assert "no such directory; expected one with a model for S-BERT" in capsys.readouterr().err
    assert main([*arguments(data, minilm, tmp_path), "--metrics", "bleu-9"]) == 1
    assert "metric 'bleu-9' is unknown" in capsys.readouterr().err


def test_sources(data, tmp_path):
    root = data / "data"
    assert nerf_sources(root, family="hash").test == "hash"
    with pytest.raises(ValueError, match="holds NeRFs of mlp, hash; choose with --family"):
        nerf_sources(root)
    with pytest.raises(FileNotFoundError, match="no such directory; expected NeRFs in"):
        nerf_sources(root, family="triplane")
    with pytest.raises(FileNotFoundError, match="holds neither NeRFs"):
        nerf_sources(tmp_path)
    with pytest.raises(ValueError, match="exclude each other"):
        nerf_sources(root, family="hash", embeddings=tmp_path)
    (tmp_path / "test" / "vecs").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no embeddings"):
        nerf_sources(tmp_path)
    np.save(tmp_path / "test" / "vecs" / "a.npy", np.zeros(4, dtype=np.float32))
    found = nerf_sources(tmp_path)
    assert found.find("a").name == "a.npy"
    with pytest.raises(ValueError, match="object b: has a reference but no NeRF in vecs"):
        found.find("b")
    for class_id in ("c1", "c2"):
        save_nerf(
            Nerf.random("MLP-32H"),
            tmp_path / "mlp" / class_id / "x",
        )
    twice = nerf_sources(tmp_path, family="mlp")
    with pytest.raises(ValueError, match="object x: is the id of 2 NeRFs in mlp"):
        twice.find("x")
    assert twice.find("c2/x").parent.name == "c2"


def test_released_h5_embeddings(tmp_path):
    from gmn_encoder.embeddings.files import write_h5_embedding

    write_h5_embedding(torch.zeros(8), tmp_path / "emb" / "0.h5", class_id="c", nerf_id="n")
    found = nerf_sources(tmp_path, embeddings=tmp_path / "emb")
    assert found.find("n") == found.find("c/n") == tmp_path / "emb" / "0.h5"
    (tmp_path / "emb" / "1.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"1\.h5: is no embedding .*expected datasets embedding, class_id, nerf_id"):
        nerf_sources(tmp_path, embeddings=tmp_path / "emb")


def test_score_command(tmp_path, capsys):
    records = [
        {"object_id": f"o{i}", "question": "?", "ground_truth": f"a red chair {i}", "model_output": f"a red stool {i}"}
        for i in range(6)
    ]
    better = [{**record, "model_output": record["ground_truth"]} for record in records]
    first, second = tmp_path / "a.json", tmp_path / "b.jsonl"
    first.write_text(json.dumps({"results": [*records, {"object_id": "x", "ground_truth": "y"}]}))
    second.write_text("".join(json.dumps(record) + "\n" for record in better))
    metrics = ["--metrics", "bleu-1,rouge-1", "--resamples", "99"]
    assert main(["score", str(first), "--protocol", "llana", *metrics]) == 1
    captured = capsys.readouterr()
    assert "a.json: result 6: (object 'x') a reference without a prediction, model_output is missing" in captured.err
    # 3 of 4 words
    assert re.search(r"BLEU-1 +75\.0000 +\[75\.00, 75\.00\]", captured.out)
    assert json.loads((tmp_path / "a_evaluated_traditional.json").read_text())["overall_scores"]["bleu-1"] == "75.0000"
    out = tmp_path / "scores.json"
    assert main(["score", str(second), "--against", str(first), "--out", str(out), *metrics]) == 1
    captured = capsys.readouterr()
    # 2 / (1 + 99)
    assert re.search(r"BLEU-1 +100\.00 +75\.00 +\+25\.00 +\[\+25\.00, \+25\.00\] +0\.0200", captured.out)
    assert json.loads(out.read_text())["comparison"]["bleu-1"]["difference"] == pytest.approx(25.0)
    assert main(["score", str(second), *metrics]) == 0
    assert main(["score", str(second), "--out", str(second), *metrics]) == 1
    assert "is a result file that is to be scored" in capsys.readouterr().err
    assert second.read_text().count("\n") == 6

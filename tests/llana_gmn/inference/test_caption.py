from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gmn_encoder.nerfs.files import save_nerf
from llana_gmn import caption_nerfs
from llana_gmn.commands import main


def one_by_one(model, processor, nerfs, questions):
    texts = []
    for nerf, question in zip(nerfs, questions, strict=True):
        messages = [{"role": "user", "content": [{"type": "nerf", "nerf": nerf}, {"type": "text", "text": question}]}]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        texts += processor.post_process(model.generate(**inputs, max_new_tokens=6, do_sample=False), inputs)
    return texts


@pytest.fixture
def saved(tiny, nerfs, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path / "model")
    for i in range(7):
        save_nerf(nerfs[i % 3], tmp_path / "nerfs" / f"{i}.safetensors")
    return tmp_path


def records(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_batches_equal_single_runs_in_order(model, processor, nerfs, monkeypatch):
    monkeypatch.setattr("llana_gmn.inference.caption.WINDOW_BATCHES", 2)
    many = [nerfs[i % 3] for i in range(8)]
    questions = ["What is this object?" if i % 2 else f"Is it {'very ' * i}red?" for i in range(8)]
    found = list(caption_nerfs(model, processor, many, question=questions, batch_size=3, max_new_tokens=6))
    assert [i for i, _ in found] == list(range(8))
    assert [text for _, text in found] == one_by_one(model, processor, many, questions)


def test_a_window_is_sorted_by_length_inside(model, processor, nerfs, monkeypatch):
    lengths = []
    generate = type(model).generate

    def spy(self, *args, **kwargs):
        lengths.append(kwargs["attention_mask"].sum(1).tolist())
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "generate", spy)
    questions = ["a b c d e f g h", "a", "a b c d", "a b", "a b c d e f", "a b c"]
    list(caption_nerfs(model, processor, [nerfs[0]] * 6, question=questions, batch_size=2, max_new_tokens=1))
    flat = [n for batch in lengths for n in batch]
    assert flat == sorted(flat)
    assert len(lengths) == 3


def test_broken_inputs_are_left_out_or_raised(model, processor, nerfs, tmp_path):
    inputs = [nerfs[0], str(tmp_path / "none.pth"), nerfs[1]]
    failed = []
    found = caption_nerfs(
        model, processor, inputs, max_new_tokens=2, on_error=lambda i, error: failed.append((i, str(error)))
    )
    assert [i for i, _ in found] == [0, 2]
    assert failed[0][0] == 1
    assert "no such file" in failed[0][1]
    with pytest.raises(FileNotFoundError):
        list(caption_nerfs(model, processor, inputs, max_new_tokens=2))
    with pytest.raises(ValueError, match="2 questions came with 3 NeRFs"):
        list(caption_nerfs(model, processor, inputs, question=["a", "b"]))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        list(caption_nerfs(model, processor, inputs, batch_size=0))
    assert list(caption_nerfs(model, processor, [])) == []


def test_embeddings_are_captioned(model, processor, nerfs):
    records = list(caption_nerfs(model, processor, nerfs, max_new_tokens=4))
    embeddings = list(model.encode(nerfs).numpy())
    assert list(caption_nerfs(model, processor, embeddings, max_new_tokens=4)) == records


def test_command(saved, capsys, model, processor, nerfs):
    out = saved / "captions.jsonl"
    (saved / "nerfs" / "3.safetensors").write_bytes(b"broken")
    arguments = ["caption", "--model", str(saved / "model"), str(saved / "nerfs"), "--out", str(out)]
    arguments += ["--batch-size", "3", "--max-new-tokens", "6"]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "3.safetensors: is no safetensors file" in err
    assert "6 captions, 6 new" in err
    assert "captions/s" in err
    expected = one_by_one(model, processor, nerfs, ["What is this object?"] * 3)
    found = records(out)
    assert [Path(r["nerf"]).stem for r in found] == ["0", "1", "2", "4", "5", "6"]
    assert [r["caption"] for r in found] == [expected[int(Path(r["nerf"]).stem) % 3] for r in found]
    save_nerf(nerfs[0], saved / "nerfs" / "3.safetensors")
    before = out.read_text()
    assert main(arguments) == 0
    assert "7 captions, 1 new" in capsys.readouterr().err
    assert set(before.splitlines()) < set(out.read_text().splitlines())
    assert [Path(r["nerf"]).stem for r in records(out)] == [str(i) for i in range(7)]
    assert main([*arguments, "--question", "Why?"]) == 1
    assert "begun with question" in capsys.readouterr().err
    assert main([*arguments, "--question", "Why?", "--overwrite"]) == 0
    assert records(out)[0]["question"] == "Why?"


def test_what_was_fitted_or_trained_anew_in_the_same_place_is_not_taken_for_the_old(saved, capsys, tiny, nerfs):
    out, model = saved / "captions.jsonl", saved / "model"
    arguments = ["caption", "--model", str(model), str(saved / "nerfs"), "--out", str(out), "--max-new-tokens", "6"]
    assert main(arguments) == 0
    before = records(out)
    capsys.readouterr()
    save_nerf(nerfs[1], saved / "nerfs" / "3.safetensors")  # nerfs[0] stood there
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert "1 of 7 had changed and are done again" in err and "7 captions, 1 new" in err
    after = records(out)
    assert [i for i in range(7) if after[i] != before[i]] == [3]
    assert (after[3]["caption"], after[3]["sha256"]) == (before[1]["caption"], before[1]["sha256"])

    changed = copy.deepcopy(tiny[0])
    next(iter(changed.projector.parameters())).data.mul_(1.5)
    changed.save_pretrained(model)
    kept = out.read_text()
    assert main(arguments) == 1
    assert re.search(
        r"was begun with model_sha256 '\w{64}', now '\w{64}'; name another file, or --overwrite",
        capsys.readouterr().err,
    )
    assert out.read_text() == kept
    tiny[0].save_pretrained(model)  # the first model again, written later
    (model / "trainer_state.json").write_text("{}")
    assert main(arguments) == 0
    assert "7 captions, 0 new" in capsys.readouterr().err


def test_a_file_of_before_that_says_nothing_of_content_is_refused(saved, capsys):
    out = saved / "captions.jsonl"
    arguments = ["caption", "--model", str(saved / "model"), str(saved / "nerfs"), "--out", str(out)]
    assert main([*arguments, "--max-new-tokens", "2"]) == 0
    settings = saved / "captions.jsonl.settings.json"
    old = {key: value for key, value in json.loads(settings.read_text()).items() if key != "model_sha256"}
    settings.write_text(json.dumps(old))
    assert main([*arguments, "--max-new-tokens", "2"]) == 1
    assert "captions.jsonl: was begun without model_sha256, now '" in capsys.readouterr().err


def test_two_processes(saved, model, processor, nerfs):
    """Under torchrun, as `accelerate launch` starts it: each input once, in order."""
    out = saved / "captions.jsonl"
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "encoder"), str(root / "eval"), str(root), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "-m",
        "llana_gmn",
    ]
    command += ["caption", "--model", str(saved / "model"), str(saved / "nerfs"), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": path, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, "--max-new-tokens", "6"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "in each process" in done.stderr
    expected = one_by_one(model, processor, nerfs, ["What is this object?"] * 3)
    assert [(Path(r["nerf"]).stem, r["caption"]) for r in records(out)] == [(str(i), expected[i % 3]) for i in range(7)]
    assert not list(saved.glob("captions.jsonl.part-*"))


def test_conversations_continue_with_their_own_answers(model, processor, nerfs, monkeypatch):
    """Batched over conversations of different lengths, each as if it were held alone."""
    from llana_gmn import ChatSession, converse

    monkeypatch.setattr("llana_gmn.inference.caption.WINDOW_BATCHES", 2)
    questions = [["What is it?", "What colour is the chair?", "Is it red?"], ["Is it tall?"], ["A lamp?", "Why?"]] * 2
    many = [nerfs[i % 3] for i in range(6)]
    found = list(converse(model, processor, many, questions, batch_size=2, max_new_tokens=5))
    assert [i for i, _ in found] == list(range(6))
    for (_, answers), nerf, turns in zip(found, many, questions, strict=True):
        session = ChatSession(model, processor, max_new_tokens=5)
        session.add_nerf(nerf)
        assert answers == [session.ask(turn).strip() for turn in turns]
    alone = [
        texts[0]
        for _, texts in converse(model, processor, many, [[turns[-1]] for turns in questions], max_new_tokens=5)
    ]
    assert alone != [answers[-1] for _, answers in found]  # history matters
    with pytest.raises(ValueError, match="1 lists of questions came with 6 NeRFs"):
        converse(model, processor, many, [["a"]])
    with pytest.raises(ValueError, match="none empty"):
        converse(model, processor, many[:1], [[]])


def test_a_nerf_is_encoded_once_for_all_that_is_asked_about_it(model, processor, nerfs, tmp_path, monkeypatch):
    """Over turns, conversations and windows; the embeddings that are kept have a bound."""
    from llana_gmn import converse

    paths = [save_nerf(nerf, tmp_path / f"{i}.safetensors") for i, nerf in enumerate(nerfs)]
    many, questions = [paths[i % 3] for i in range(8)], [["What is it?", "Is it red?"]] * 8
    encoded = []
    encode = type(model.nerf_encoder).encode
    monkeypatch.setattr(
        type(model.nerf_encoder),
        "encode",
        lambda self, given, **options: encoded.extend(given) or encode(self, given, **options),
    )
    monkeypatch.setattr("llana_gmn.inference.caption.WINDOW_BATCHES", 2)
    options = {"batch_size": 2, "max_new_tokens": 3}
    found = list(converse(model, processor, many, questions, **options))
    assert [nerf.source for nerf in encoded] == paths
    encoded.clear()
    monkeypatch.setattr("llana_gmn.inference.caption.KEPT_BYTES", 0)
    assert list(converse(model, processor, many, questions, **options)) == found
    assert len(encoded) == 6  # three in each of two windows

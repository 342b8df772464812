from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmn_encoder.nerfs.files import save_nerf
from llana_gmn import caption_nerfs

from llana_gmn.commands import main

SETTINGS = {"model": "m", "max_new_tokens": 5}


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
    monkeypatch.setattr("llana_gmn.caption.WINDOW_BATCHES", 2)
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


def open_file(path, nerfs="abcdef", **options):
    options = {"question": "What?", "settings": SETTINGS, **options}
    return CaptionFile(path, list(nerfs), **options)


def test_processes_share_the_work_and_the_file_keeps_the_order(tmp_path):
    path = tmp_path / "out.jsonl"
    files = [open_file(path, rank=rank, world_size=3) for rank in range(3)]
    files[0].start()
    shares = [file.missing() for file in files]
    assert sorted(nerf for share in shares for nerf in share) == list("abcdef")
    for file, share in reversed(list(zip(files, shares, strict=True))):
        for nerf in share:
            file.write(nerf, f"caption {nerf} \u2028 é")
    assert files[0].finish() == 6
    lines = [json.loads(line) for line in path.read_text().strip().split("\n")]
    assert [line["nerf"] for line in lines] == list("abcdef")
    assert lines[0] == {"nerf": "a", "question": "What?", "caption": "caption a \u2028 é"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.settings.json"]
    again = open_file(path)
    assert again.missing() == []
    assert again.done == 6


def test_an_interrupted_run_continues_with_another_number_of_processes(tmp_path):
    path = tmp_path / "out.jsonl"
    first = open_file(path, rank=1, world_size=2)
    first.start()
    first.write("e", "caption e")
    first.write("d", "caption d")
    part = tmp_path / "out.jsonl.part-1"
    part.write_text(part.read_text()[:-9])  # killed in the middle of a line
    second = open_file(path)
    assert second.missing() == ["a", "b", "c", "d", "f"]
    for nerf in second.missing():
        second.write(nerf, "new")
    second.finish()
    assert [(r["nerf"], r["caption"]) for r in records(path)][3:5] == [("d", "new"), ("e", "caption e")]
    more = open_file(path, nerfs="xa")
    assert more.missing() == ["x"]
    more.write("x", "new")
    assert more.finish() == 7
    assert [r["nerf"] for r in records(path)] == list("bcdefxa")


def test_other_settings_and_other_files_are_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    file = open_file(path)
    file.start()
    file.write("a", "x")
    with pytest.raises(ValueError, match="was begun with max_new_tokens 5, now 6; name another file, or --overwrite"):
        open_file(path, settings={**SETTINGS, "max_new_tokens": 6})
    with pytest.raises(ValueError, match="begun with question 'What\\?'"):
        open_file(path, question="Why?")
    remove_captions(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("my notes\n")
    with pytest.raises(ValueError, match="is there already, and not of this command"):
        open_file(path)


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
        "--master-port=29617",
        "-m",
        "llana_gmn",
    ]
    command += ["caption", "--model", str(saved / "model"), str(saved / "nerfs"), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
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

    monkeypatch.setattr("llana_gmn.caption.WINDOW_BATCHES", 2)
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
    monkeypatch.setattr("llana_gmn.caption.WINDOW_BATCHES", 2)
    options = {"batch_size": 2, "max_new_tokens": 3}
    found = list(converse(model, processor, many, questions, **options))
    assert [nerf.source for nerf in encoded] == paths
    encoded.clear()
    monkeypatch.setattr("llana_gmn.caption.KEPT_EMBEDDINGS", 0)
    assert list(converse(model, processor, many, questions, **options)) == found
    assert len(encoded) == 6  # three in each of two windows

"""Commands with small inputs of their own, whose inputs, models and settings can be changed in their place."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects import generate_dataset, write_texts
from tests.encoder.fitting.test_single import CUBE
from tests.encoder.training.representation.conftest import TINY, dense, write_set
from tests.llana_eval.conftest import saying_model

SPIES = {
    "llana_gmn.inference.record_file.RecordFile.append": None,
    "gmn_encoder.embeddings.job.EmbeddingJob._write_chunk": None,
    "gmn_encoder.fitting.photometric.PhotometricFit.step": None,
    "gmn_encoder.training.loop.TrainingLoop._step": None,
    "llana_eval.representation.classifier_training.ClassifierTraining._train_epoch": None,
    "llana_gmn.training.trainer.ConversationTrainer.training_step": None,
}
"""Where each kind of result is made."""


@dataclass
class Job:
    """A command line, and how to change what it depends on.

    Attributes:
        arguments: the command line.
        changes: column of the table -> changes something in its place, or returns other arguments.
        output: what it writes, of which there is one writer at a time.
        total: results of a whole run, in the unit that `SPIES` count; None where they are not counted.
        again: done once between the first run and the others.
    """

    arguments: list[str]
    changes: dict[str, Callable[[], list[str] | None]]
    output: Path
    total: int | None = None
    again: Callable[[], object] = field(default=lambda: None)


def in_place(path: Path, content: bytes) -> None:
    """Write other content of the same size, and give the file the times that it had."""
    before = path.stat()
    assert len(content) == before.st_size and content != path.read_bytes()
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_nerf(path: Path) -> None:
    """Change the last number of a NeRF's weights."""
    in_place(path, path.read_bytes()[:-4] + struct.pack("<f", 0.25))


def other_weights(file: Path, part: str) -> None:
    """Change the first tensor of a safetensors file whose name has a word in it."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if part in name and tensors[name].is_floating_point())
    tensors[name] = tensors[name] * 1.5 + 0.01
    made = file.with_suffix(".new")
    save_file(tensors, made, metadata=metadata)
    in_place(file, made.read_bytes())
    made.unlink()


def setting(arguments: list[str], *more: str) -> Callable[[], list[str]]:
    return lambda: [*arguments, *more]


def caption(root: Path, tiny_folder: Path, nerfs: list[Nerf]) -> Job:
    model = shutil.copytree(tiny_folder, root / "model")
    files = [save_nerf(nerf, root / "nerfs" / f"{i}.safetensors") for i, nerf in enumerate(nerfs)]
    arguments = ["caption", "--model", str(model), str(root / "nerfs"), "--out", str(root / "c.jsonl")]
    arguments += ["--max-new-tokens", "2"]
    changes = {
        "content of an input": lambda: other_nerf(files[1]),
        "model": lambda: other_weights(model / "model.safetensors", "projector"),
        "encoder": lambda: other_weights(model / "model.safetensors", "nerf_encoder"),
        "setting": setting(arguments, "--question", "Why?"),
    }
    return Job(arguments, changes, root / "c.jsonl", total=3)


def evaluate(root: Path, tiny_folder: Path, nerfs: list[Nerf]) -> Job:
    model, things = shutil.copytree(tiny_folder, root / "model"), list(generate_dataset(3))
    write_texts(things, root / "data" / "language" / "test" / "texts")
    files = []
    for thing, nerf in zip(things, nerfs, strict=True):
        directory = root / "data" / "hash" / thing.class_id / thing.object_id
        files.append(save_nerf(nerf, directory / "nerf.safetensors"))
    arguments = ["evaluate", "--model", str(model), "--data", str(root / "data"), "--task", "brief_description"]
    arguments += ["--out", str(root / "out"), "--metrics", "bleu-1", "--max-new-tokens", "2", "--gallery", "0"]
    arguments += ["--resamples", "20"]
    changes = {
        "content of an input": lambda: other_nerf(files[1]),
        "model": lambda: other_weights(model / "model.safetensors", "projector"),
        "encoder": lambda: other_weights(model / "model.safetensors", "nerf_encoder"),
        "setting": setting(arguments, "--temperature", "1"),
    }
    return Job(arguments, changes, root / "out" / "brief_description_hash.jsonl", total=3)


def score_judge(root: Path, tiny_folder: Path, nerfs: list[Nerf]) -> Job:
    judge, results = Path(saying_model(root / "judge", "40#it")), root / "results.json"
    said = [f"A chair {number}." for number in range(3)]
    results.write_text(
        json.dumps(
            [{"object_id": f"o{i}", "ground_truth": "A chair.", "model_output": text} for i, text in enumerate(said)]
        )
    )
    arguments = ["score", str(results), "--judge", str(judge), "--metrics", "bleu-1", "--resamples", "20"]
    changes = {
        "content of an input": lambda: in_place(results, results.read_bytes().replace(b"chair 1", b"table 1")),
        "model": lambda: other_weights(judge / "model.safetensors", "norm"),
        "setting": setting(arguments, "--judge-max-new-tokens", "9"),
    }
    return Job(arguments, changes, root / "results_judge_judge.jsonl", total=3)


def embed(root: Path, small_encoder, *, interrupted: bool) -> Job:
    small_encoder.save_pretrained(root / "encoder")
    files = [save_nerf(Nerf.random("MLP-32H", seed=i), root / "nerfs" / f"{i}.safetensors") for i in range(3)]
    out = root / "e.safetensors"
    arguments = ["embed", str(root / "nerfs"), "--encoder", str(root / "encoder"), "--out", str(out)]
    changes = {
        "content of an input": lambda: other_nerf(files[1]),
        "encoder": lambda: other_weights(root / "encoder" / "model.safetensors", "weight"),
        "setting": setting(arguments, "--batch-size", "2"),
    }
    return Job(arguments, changes, out, total=3)


def _set(root: Path, small_encoder) -> list[Path]:
    small_encoder.save_pretrained(root / "encoder")
    names, files = [f"{('03001627', '04379243')[i % 2]}/n{i}" for i in range(4)], []
    for family, architecture in {"mlp": "MLP-32H", "hash": "HASH-11T"}.items():
        for i, name in enumerate(names):
            files.append(
                save_nerf(Nerf.random(architecture, seed=i), root / "data" / family / name / "nerf.safetensors")
            )
    for split in ("train", "val", "test"):
        (root / "data" / f"{split}.txt").write_text("\n".join(names))
    return files


def retrieve(root: Path, small_encoder) -> Job:
    files = _set(root, small_encoder)
    arguments = ["retrieve", "--data", str(root / "data"), "--encoder", str(root / "encoder")]
    arguments += ["--families", "mlp,hash", "--keep", str(root / "kept")]
    changes = {
        "content of an input": lambda: other_nerf(files[1]),
        "encoder": lambda: other_weights(root / "encoder" / "model.safetensors", "weight"),
        "setting": setting(arguments, "--ks", "1,2"),
    }
    return Job(arguments, changes, root / "kept", total=8)


def classify(root: Path, small_encoder) -> Job:
    files = _set(root, small_encoder)
    arguments = ["classify", "--data", str(root / "data"), "--encoder", str(root / "encoder"), "--families", "mlp"]
    arguments += ["--keep", str(root / "kept"), "--out", str(root / "out"), "--epochs", "2"]
    changes = {
        "content of an input": lambda: other_nerf(files[1]),
        "encoder": lambda: other_weights(root / "encoder" / "model.safetensors", "weight"),
        "setting": setting(arguments, "--learning-rate", "0.01"),
    }
    return Job(arguments, changes, root / "out" / "MLP")


def fit(root: Path) -> Job:
    mesh = root / "cube.ply"
    mesh.write_text(CUBE)
    (root / "other").mkdir()
    shutil.copyfile(mesh, root / "other" / "block.ply")
    arguments = [
        "fit",
        str(mesh),
        str(root / "other"),
        "--family",
        "hash",
        "--quality",
        "nano",
        "--out",
        str(root / "out"),
    ]
    arguments += ["--iterations", "3", "--views", "4", "--size", "16", "--class-id", "own"]
    changes = {
        "content of an input": lambda: in_place(mesh, CUBE.replace("1 1 0", "1 3 0").encode()),
        "setting": setting(arguments, "--iterations", "4"),
    }
    return Job(arguments, changes, root / "out" / "hash" / "own" / "cube", total=6)


def train(root: Path, tiny_folder: Path, language_data: Path, *, interrupted: bool) -> Job:
    model, data = shutil.copytree(tiny_folder, root / "model"), shutil.copytree(language_data, root / "data")
    texts = data / "language" / "train" / "texts" / "conversations_brief.json"
    arguments = ["train", "--stage", "1", f"model={model}", f"data={data}", f"output={root / 'run'}", "max_steps=2"]
    arguments += [f"embeddings.{family}={data / family}.safetensors" for family in ("mlp", "hash")]
    arguments += ["batch_size=4", "save_steps=1", "samples=0", "eval_split=''"]
    changes = {
        "content of an input": lambda: in_place(texts, texts.read_bytes().replace(b"What", b"Whom", 1)),
        "model": lambda: other_weights(model / "model.safetensors", "projector"),
        "setting": setting(arguments, "learning_rate=0.5"),
    }
    report = root / "run" / "report.json"
    return Job(arguments, changes, root / "run", again=(lambda: report.unlink()) if interrupted else (lambda: None))


def train_encoder(root: Path) -> Job:
    (root / "data").mkdir()
    data, config = write_set(root / "data"), root / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY.to_dict()))
    arguments = ["train-encoder", "--data", str(data), "--out", str(root / "out"), "--config", str(config), "epochs=1"]

    def other_content() -> None:
        file = next((data / "mlp").rglob("nerf_weights.pth"))
        made = save_nerf(dense(TINY.architectures["mlp"], 99), root / "made.pth")
        padded = made.read_bytes()
        # The names in the archive tell the file's, so sizes may differ by a little.
        if len(padded) == file.stat().st_size:
            in_place(file, padded)
        else:
            shutil.copyfile(made, file)

    changes = {"content of an input": other_content, "setting": setting(arguments, "learning_rate=0.01")}
    return Job(arguments, changes, root / "out")

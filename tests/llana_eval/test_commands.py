import json
import shutil

import pytest
import torch
from PIL import Image

from gmn_encoder import Nerf, save_nerf
from llana_gmn.commands import main
from tests.conftest import GOLDEN
from tests.llana_eval.conftest import DIRECTORIES

CHAIR, TABLE = "03001627", "04379243"


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, small_encoder):
    folder = tmp_path_factory.mktemp("encoder")
    small_encoder.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Small random NeRFs of 6 objects in two families, with lists and first views."""
    root = tmp_path_factory.mktemp("data")
    architectures = {"mlp": "MLP-32H", "hash": "HASH-11T"}
    objects = [f"{(CHAIR, TABLE)[i % 2]}/n{i}" for i in range(6)]
    for family, architecture in architectures.items():
        for i, name in enumerate(objects):
            folder = root / family / name
            save_nerf(Nerf.random(architecture, seed=i), folder)
            (folder / "train").mkdir()
            Image.new("RGBA", (16, 16), (40 * i, 90, 120, 255)).save(folder / "train" / "00.png")
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text("\n".join(objects))
    return root


def test_retrieve_files(capsys, embedding_files, tmp_path):
    files = [embedding_files["test"][family] for family in DIRECTORIES]
    out = tmp_path / "recall.json"
    status, text, err = run(capsys, "retrieve", *reversed(files), "--published", "17", "--ks", "1,5", "--out", out)
    assert (status, err) == (0, "")
    assert "| Method | k | ALL/ALL | MLP/TRI | MLP/HASH | TRI/MLP | TRI/HASH | HASH/MLP | HASH/TRI |" in text
    assert "| L_R+C | 1 | 5.25 |" in text and text.index("| L_C | 1 |") < text.index("| this encoder | 1 |")
    content = json.loads(out.read_text())
    found = {f"{each['queries']}/{each['gallery']}": each["recall"] for each in content["results"]}
    assert found["MLP/TRI"]["5"] > 0.5 and found["ALL/ALL"]["1"] < 1 and content["denominator"] == "queries"


def test_retrieve_embeds_a_data_set_once_and_draws_what_it_found(capsys, tmp_path, data, encoder):
    arguments = ["retrieve", "--data", data, "--encoder", encoder, "--keep", tmp_path / "kept"]
    picture = tmp_path / "g.png"
    status, text, err = run(capsys, *arguments, "--gallery", picture, "--rows", 3, "--neighbours", 4, "--size", 32)
    assert (status, err) == (0, "") and "| RANDOM | 1 | 8.33 | 16.67 | 16.67 |" in text.replace("*", "")
    with Image.open(picture) as drawn:
        assert drawn.size == (5 * (32 + 8 + 6) + 12, 3 * (32 + 8 + 15 + 6) + 6)
    kept = sorted((tmp_path / "kept").rglob("*.safetensors"))
    assert len(kept) == 2  # one for each family
    times = [file.stat().st_mtime_ns for file in kept]
    assert run(capsys, *arguments)[1] == text and [file.stat().st_mtime_ns for file in kept] == times


def test_classify_files(capsys, embedding_files, tmp_path):
    arguments = [
        part for split in ("train", "val", "test") for part in (f"--{split}", *embedding_files[split].values())
    ]
    fast = ["--epochs", 15, "--learning-rate", "0.01", "--train-batch-size", 40]
    options = ["--out", tmp_path / "out", "--table", tmp_path / "t.json", "--published", 15, "--per-class"]
    status, text, err = run(capsys, "classify", *arguments, *fast, *options)
    assert (status, err) == (0, "")
    assert "| Method | Classifier Training Set | MLP | TRI | HASH |" in text and "| L_C | ALL | 82.5 |" in text
    assert "**Trained on ALL, tested on HASH**" in text and "| airplane | 10 |" in text
    runs = {each["trained_on"]: each for each in json.loads((tmp_path / "t.json").read_text())["runs"]}
    assert list(runs) == ["ALL", "MLP", "TRI", "HASH"] and runs["ALL"]["options"]["seed"] == 0
    assert runs["ALL"]["tests"]["MLP"]["accuracy"] > 0.9
    again = ["classify", "--classifier", tmp_path / "out" / "ALL", "--test", *embedding_files["test"].values()]
    status, text, _ = run(capsys, *again, "--table", tmp_path / "again.json")
    (tested,) = json.loads((tmp_path / "again.json").read_text())["runs"]
    assert status == 0 and tested["tests"] == runs["ALL"]["tests"]


def test_classify_a_data_set(capsys, tmp_path, data, encoder):
    arguments = ["--data", data, "--encoder", encoder, "--keep", tmp_path, "--epochs", 2, "--train-on", "ALL,HASH"]
    status, text, err = run(capsys, "classify", *arguments, "--blocks", "paper")
    assert (status, err) == (0, "") and text.count("| this encoder |") == 2 and "blocks 1024-512-256" in text


def fit_anew(data):
    """Other NeRFs in the places of those of a family: each object gets the one that the object before it had."""
    files = [data / "mlp" / (CHAIR, TABLE)[i % 2] / f"n{i}" / "nerf_weights.pth" for i in range(6)]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents[-1:] + contents[:-1], strict=True):
        file.write_bytes(content)


def test_retrieve_embeds_anew_what_was_fitted_anew(capsys, tmp_path, data, encoder):
    copy = shutil.copytree(data, tmp_path / "data")
    shutil.copytree(copy / "mlp", copy / "hash", dirs_exist_ok=True)  # equal NeRFs: the nearest is the object itself
    arguments = ["retrieve", "--data", copy, "--encoder", encoder, "--ks", "1", "--keep", tmp_path / "kept"]
    assert "| this encoder | 1 | **100.00** | **100.00** | **100.00** |" in run(capsys, *arguments)[1]
    fit_anew(copy)
    assert "| this encoder | 1 | 0.00 | 0.00 | 0.00 |" in run(capsys, *arguments)[1]


def test_classify_embeds_anew_what_was_fitted_anew(capsys, tmp_path, data, encoder):
    copy = shutil.copytree(data, tmp_path / "data")
    arguments = ["classify", "--data", copy, "--encoder", encoder, "--keep", tmp_path, "--out", tmp_path / "out"]
    arguments += ["--epochs", 2, "--train-on", "MLP"]
    assert run(capsys, *arguments)[0] == run(capsys, *arguments)[0] == 0
    fit_anew(copy)
    status, _, err = run(capsys, *arguments)
    assert status == 1 and "was begun with other embeddings or options" in err


def test_classify_without_training(capsys, tmp_path, data, encoder, tiny, monkeypatch):
    monkeypatch.setattr("llana_gmn.checkpoints.loading.load_model", lambda path: tiny)
    arguments = ["classify", "--zero-shot", "--model", "tiny", "--per-class"]
    status, text, err = run(capsys, *arguments, "--data", data, "--keep", tmp_path / "kept")
    assert (status, err) == (0, "")
    assert "| Method | Classifier Training Set | MLP | HASH |" in text and "| this model | none (zero-shot) |" in text
    assert "| chair | 3 |" in text and "| table | 3 |" in text
    assert run(capsys, "embed", data / "mlp", "--encoder", encoder, "--out", tmp_path / "mlp.npz")[0] == 0
    status, _, err = run(capsys, *arguments, "--test", tmp_path / "mlp.npz")
    assert status == 1 and "the test set MLP is of another encoder than the model's" in err


def test_plot(capsys, embedding_files, tmp_path):
    out = tmp_path / "p.png"
    files = embedding_files["test"].values()
    status, text, err = run(capsys, "plot", *files, "--out", out, "--limit", 10)
    assert (status, text) == (0, "") and err == f"30 embeddings in {out}\n"
    with Image.open(out) as picture:
        assert picture.size == (1500, 1200)


def test_families_can_be_named(capsys, tmp_path):
    released = GOLDEN / "emb" / "golden" / "shapenet"
    status, text, _ = run(
        capsys, "retrieve", f"A={released / 'mlp' / 'test'}", f"B={released / 'hash' / 'test'}", "--ks", 1
    )
    assert (
        status == 0 and "| Method | k | ALL/ALL | A/B | B/A |" in text and "| this encoder | 1 | **100.00** |" in text
    )


def test_what_cannot_be_read_is_named_and_the_rest_is_done(capsys, tmp_path, data, encoder):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    (copy / "mlp" / CHAIR / "n2" / "nerf_weights.pth").write_bytes(b"x")
    status, text, err = run(capsys, "retrieve", "--data", copy, "--encoder", encoder, "--keep", tmp_path / "kept")
    assert status == 1 and err.count("\n") == 1 and "n2" in err
    assert "count as misses: 1 of ALL/ALL, 1 of HASH/MLP" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["retrieve"], "no embeddings given; name their files, or a data set with --data and --encoder"),
        (["retrieve", "--data", "."], "--data needs an encoder"),
        (["retrieve", "absent.npz"], "absent.npz: no such file or directory"),
        (["retrieve", "FILE", "--ks", "1,x"], "--ks is '1,x'; expected whole numbers as in 1,5,10"),
        (["retrieve", "FILE", "--published", "9999"], "table 9999 of the paper is not kept here"),
        (["retrieve", "FILE", "--out", "t.csv"], "t.csv: unknown kind '.csv' for a table"),
        (["retrieve", "FILE"], "two families or more; got MLP"),
        (["classify", "--train", "FILE"], "not all embeddings are given; name files with --train, --val, --test"),
        (["classify", "--train", "FILE", "--val", "OTHER", "--test", "FILE"], "no validation embeddings of MLP"),
        (["classify", "--classifier", "absent", "--test", "FILE"], "absent: no such file"),
        (
            ["classify", "--train", "FILE", "--val", "FILE", "--test", "FILE", "--train-on", "ALL"],
            "--train-on names ALL; expected some of MLP",
        ),
        (["plot", "--out", "p.png"], "no embeddings given"),
        (["plot", "FILE", "--out", "p.bmp"], "p.bmp: unknown kind of picture"),
    ],
)
def test_bad_input_is_one_sentence(capsys, embedding_files, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    names = {"FILE": embedding_files["test"]["mlp"], "OTHER": embedding_files["test"]["hash"]}
    status, out, err = run(capsys, *(names.get(each, each) for each in arguments))
    assert (status, out) == (1, "") and message in err and err.count("\n") == 1


def test_nan_and_width_are_named(capsys, tmp_path, embedding_files):
    from gmn_encoder.embeddings.files import write_embeddings
    from gmn_encoder.embeddings.records import EmbeddingSet

    for name, values in (("nan", torch.tensor([[1.0, float("nan")]])), ("wide", torch.ones(1, 5))):
        write_embeddings(EmbeddingSet.of_nerfs(values, [f"d/hash/{CHAIR}/a"]), tmp_path / f"{name}.safetensors")
    first = embedding_files["test"]["mlp"]
    status, _, err = run(capsys, "retrieve", first, tmp_path / "nan.safetensors")
    assert status == 1 and "embedding 0 (03001627/a) has NaN or infinity" in err
    status, _, err = run(capsys, "retrieve", first, tmp_path / "wide.safetensors")
    assert status == 1 and "embeddings 5 and 24 wide cannot be joined; expected embeddings of one encoder" in err

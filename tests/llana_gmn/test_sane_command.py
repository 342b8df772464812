"""``llana-gmn train-encoder --encoder sane``, and what a trained one is taken by."""

import torch
from safetensors.torch import load_file

from gmn_encoder import Nerf, SaneConfig, save_nerf
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.commands import main

SMALL = SaneConfig(
    points=16, width=8, heads=2, layers=1, feed_forward=8, latent_dim=8, projection=(8, 8), pose_tokens=2
)


def test_train_embed_and_pose_with_it(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    for number in range(4):
        nerf = Nerf.random("HASH-nano", seed=number)
        thick = {key: 4 * tensor for key, tensor in nerf.tensors.items()}
        for family in ("hash", "other"):
            save_nerf(Nerf(nerf.architecture, thick), data / family / "c" / str(number))
    for split, members in (("train", "c/0\nc/1\n"), ("val", "c/2\nc/3\n"), ("test", "c/2\nc/3\n")):
        (data / f"{split}.txt").write_text(members)
    command = ["train-encoder", "--encoder", "sane", "--data", str(data), "--out", str(out), "--config", "sane-small"]
    settings = ["families=[hash]", "epochs=1", "points=16", "width=8", "feed_forward=8", "batch_size=2"]
    assert main([*command, *settings]) == 0
    assert "rotation" in capsys.readouterr().out
    assert main([*command, "--loss", "rc", *settings]) == 1
    assert "weighed by settings" in capsys.readouterr().err

    file, best = tmp_path / "embeddings.safetensors", str(out / "best")
    assert main(["embed", str(data / "hash"), "--encoder", best, "--tokens", "--out", str(file)]) == 0
    assert load_file(file)["embeddings"].shape == (4, 1 + 4, 32)

    on_data = ["--data", str(data), "--encoder", best, "--families", "hash,other", "--keep", str(tmp_path / "kept")]
    capsys.readouterr()
    assert main(["retrieve", *on_data, "--ks", "1"]) == 0
    assert "100.0" in capsys.readouterr().out  # copies of the very same NeRFs
    assert main(["classify", *on_data, "--epochs", "1", "--out", str(tmp_path / "classifiers")]) == 0
    assert "100.0" in capsys.readouterr().out  # all are of one class

    a, b = (str(data / "hash" / "c" / name) for name in "01")
    assert main(["pose", a, b, "--encoder", best]) == 0
    assert "rotation" in capsys.readouterr().out


def test_a_language_model_reads_its_tokens():
    model, processor = tiny_model(encoder_config=SMALL, nerf_tokens="all")
    nerfs = [Nerf.random("HASH-nano", seed=number) for number in range(2)]
    inputs = processor(nerfs=[[nerf] for nerf in nerfs], text=["<nerf> What?"] * 2, return_tensors="pt")
    assert model.config.vectors_per_nerf == 3
    with torch.no_grad():
        assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[0] == 2

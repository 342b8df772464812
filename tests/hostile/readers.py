"""The readers and commands that hostile files meet."""

from __future__ import annotations

from pathlib import Path

from .goods import small_encoder, small_model
from .registry import command, reader


def _helpers(good: Path) -> Path:
    """A folder beside the good inputs, for encoders and models that commands want."""
    return good.parents[1]


# NeRFs


@reader("nerf")
def load_nerf(path: Path) -> None:
    from gmn_encoder import GmnConfig, GmnEncoder, find_nerfs, load_nerf
    from gmn_encoder.encoders.gmn.graph import build_parameter_graph

    encoder = GmnEncoder(GmnConfig(hidden_dim=8, embedding_dim=16, num_layers=2))
    for each in find_nerfs(path):
        nerf = load_nerf(each)
        encoder.check_nerf(nerf)
        build_parameter_graph(nerf.architecture)


@reader("nerf", extra="gradio")
def upload(path: Path) -> None:
    """What the web page does with a visitor's file before anything is built from it."""
    import shutil
    import tempfile

    from llana_gmn.web.uploads import read_nerf, receive

    if not path.is_file():
        raise ValueError(f"{path}: a browser sends files")
    with tempfile.TemporaryDirectory() as folder:
        sent = Path(folder, path.name)
        if path.stat().st_size > 20 << 20:  # the server's own limit
            raise ValueError(f"{path}: is larger than a server takes")
        shutil.copyfile(path, sent)
        read_nerf(receive(sent, Path(folder, "received"), max_bytes=20 << 20), max_bytes=20 << 20)


@command("nerf", done=lambda good, out, stdout: str(good) in stdout)
def inspect(bad: Path, good: Path, out: Path) -> list:
    return ["inspect", bad, good]


def _embedded(good: Path, out: Path, stdout: str) -> bool:
    from gmn_encoder.embeddings.files import read_embeddings

    return read_embeddings(out / "e.safetensors").paths == (str(good),)


@command("nerf", done=_embedded)
def embed(bad: Path, good: Path, out: Path) -> list:
    encoder = small_encoder(_helpers(good))
    return ["embed", bad, good, "--encoder", encoder, "--out", out / "e.safetensors", "--overwrite"]


def _captioned(good: Path, out: Path, stdout: str) -> bool:
    return str(good) in (out / "c.jsonl").read_text()


@command("nerf", done=_captioned, slow=True)
def caption(bad: Path, good: Path, out: Path) -> list:
    model = small_model(_helpers(good))
    return ["caption", bad, good, "--model", model, "--out", out / "c.jsonl", "--max-new-tokens", "2", "--overwrite"]


@command("nerf", slow=True)
def render(bad: Path, good: Path, out: Path) -> list:
    return ["render", bad, "--out", out / "r.png", "--size", "16", "--device", "cpu"]


# Encoders


@reader("encoder")
def load_encoder(path: Path) -> None:
    from gmn_encoder import load_encoder

    load_encoder(path)


@command("encoder", slow=True)
def embed_with_encoder(bad: Path, good: Path, out: Path) -> list:
    from .goods import nerf

    place = _helpers(good) / "helpers"
    place.mkdir(exist_ok=True)
    return ["embed", nerf(place), "--encoder", bad, "--out", out / "e.safetensors", "--overwrite"]


def _described(good: Path, out: Path, stdout: str) -> bool:
    return str(good) in stdout


@command("encoder", done=_described)
def inspect_encoder(bad: Path, good: Path, out: Path) -> list:
    return ["inspect", bad, good]


# Language models


@reader("model")
def load_model(path: Path) -> None:
    from llana_gmn.checkpoints.loading import load_model

    load_model(path)


@reader("model", slow=True)
def open_encoder_of_model(path: Path) -> None:
    from llana_gmn.checkpoints.encoders import open_encoder

    open_encoder(path)


@command("model", slow=True)
def caption_with_model(bad: Path, good: Path, out: Path) -> list:
    from .goods import nerf

    place = _helpers(good) / "helpers"
    place.mkdir(exist_ok=True)
    options = ["--max-new-tokens", "2", "--overwrite"]
    return ["caption", nerf(place), "--model", bad, "--out", out / "c.jsonl", *options]


@command("model", done=_described, slow=True)
def inspect_model(bad: Path, good: Path, out: Path) -> list:
    return ["inspect", bad, good]


# Embeddings, grids, data sets


@reader("embeddings")
def read_embeddings(path: Path) -> None:
    from gmn_encoder.embeddings.files import is_embedding_file, read_embedding, read_embeddings

    read_embedding(path) if is_embedding_file(path) else read_embeddings(path)


@reader("embeddings", slow=True)
def chat_input(path: Path) -> None:
    """What a prompt shows of an embedding in place of a NeRF, for a model that reads 16 numbers."""
    from llana_gmn.model.nerf_items import read_nerf

    if path.suffix in (".npy", ".h5"):
        read_nerf(path, (16,))
    else:
        read_embeddings(path)


@command("embeddings", done=_described)
def inspect_embeddings(bad: Path, good: Path, out: Path) -> list:
    return ["inspect", bad, good]


@reader("occupancy")
def read_occupancy(path: Path) -> None:
    from gmn_encoder.rendering.occupancy import read_occupancy

    read_occupancy(path)


@reader("dataset")
def read_dataset(path: Path) -> None:
    from gmn_encoder.datasets import PairedDataset

    PairedDataset(path, ("mlp", "hash"), split="test")

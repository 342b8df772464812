"""Training a model that reads several tokens a NeRF: tokens from files, from NeRFs through the cache, and a new model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from gmn_encoder import SaneConfig
from gmn_encoder.embeddings.cache import EmbeddingCache
from gmn_encoder.embeddings.files import write_embeddings
from gmn_encoder.embeddings.records import EmbeddingSet
from gmn_encoder.nerfs.files import load_nerf, save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import LlanaGmnForConditionalGeneration
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.checkpoints.loading import load_model
from llana_gmn.data.collator import ConversationCollator
from llana_gmn.data.conversations import conversation_file, read_conversations
from llana_gmn.training.recipe import NewModel
from llana_gmn.training.trainer import TrainingRun
from tests.encoder.encoders.moments import MomentsConfig, MomentsEncoder

pytestmark = pytest.mark.usefixtures("moments")


@pytest.fixture
def folder(tmp_path):
    """A saved model of three tokens a NeRF."""
    for part in tiny_model(encoder_config=MomentsConfig(embedding_dim=12, num_tokens=3), nerf_tokens="all"):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def objects(language_data):
    found = read_conversations(conversation_file(language_data, "brief_description", split="train"))
    return list(dict.fromkeys(each.object_id for each in found))


@pytest.fixture
def token_file(folder, objects, tmp_path):
    """Random tokens of each object, in a file as ``embed --tokens`` writes it."""
    torch.manual_seed(0)
    ids = tuple(tuple(name.split("/")) if "/" in name else ("", name) for name in objects)
    encoder = load_model(folder)[0].nerf_encoder.fingerprint()
    members = EmbeddingSet(torch.randn(len(ids), 3, 12), ids, ("mlp",) * len(ids), encoder=encoder)
    write_embeddings(members, tmp_path / "tokens.safetensors")
    return {"mlp": str(tmp_path / "tokens.safetensors")}


def logits_of(model, run):
    collate = ConversationCollator(run.processor.tokenizer.pad_token_id, run.processor.embedding_shape)
    batch = collate([run.train_set[i] for i in range(3)])
    with torch.no_grad():
        return model.eval()(**batch).logits


def test_both_stages_from_a_file_of_tokens(recipe, folder, token_file, tmp_path):
    settings = {"embeddings": token_file, "model": str(folder)}
    first = TrainingRun(recipe(**settings))
    sample = first.train_set[0]
    patch = first.processor.nerf_token_id
    assert sample["nerfs"][0].shape == (3, 12) and int((sample["input_ids"] == patch).sum()) == 3
    answer = first.processor.tokenizer.decode(sample["input_ids"][sample["labels"] != -100])
    assert answer == first.train_set.sample(0)[0].turns[0][1] + "</s>"
    # Projector 12 -> 32 -> 64 -> 32 with biases, whatever the number of tokens; two rows of 32.
    assert first.plan.trainable == 416 + 2112 + 2080 + 2 * 32
    report = first.train()
    losses = [entry["loss"] for entry in report.history if "loss" in entry]
    assert losses[-1] < losses[0]
    settings["model"] = report.output
    second = TrainingRun(recipe(**settings, stage=2, output=str(tmp_path / "second")))
    trained = second.train().output
    expected = logits_of(second.model, second)
    base = LlanaGmnForConditionalGeneration.from_pretrained(folder)
    assert (logits_of(base, second) - expected).abs().max() > 1e-2
    for model in (PeftModel.from_pretrained(base, trained), load_model(trained)[0]):
        torch.testing.assert_close(logits_of(model, second), expected, rtol=0, atol=1e-5)


def test_a_file_of_vectors_is_refused(recipe, folder, embedding_files):
    with pytest.raises(
        ValueError, match=r"have size 32; this model's projector reads 3 x 12\. .*llana-gmn embed --tokens"
    ):
        TrainingRun(recipe(model=str(folder), embeddings=embedding_files))


@pytest.fixture
def nerf_data(language_data, objects, tmp_path):
    """Texts, and a NeRF of each object of the training split."""
    root = tmp_path / "data"
    shutil.copytree(language_data / "language", root / "language")
    for seed, name in enumerate(objects):
        save_nerf(
            Nerf.random("MLP-nano", seed=seed), root / "mlp" / "0001" / name.rpartition("/")[2] / "nerf.safetensors"
        )
    return root


def test_nerfs_are_encoded_once_for_a_new_model(recipe, nerf_data, tmp_path, monkeypatch):
    encoder = MomentsEncoder(MomentsConfig(embedding_dim=12, num_tokens=3)).eval()
    encoder.save_pretrained(tmp_path / "encoder")
    sizes = NewModel(vocab_size=400, hidden_size=32, intermediate_size=32, layers=1, heads=2, nerf_tokens="all")
    settings = {
        "model": "new",
        "trainable": "full",
        "encoder": str(tmp_path / "encoder"),
        "new_model": sizes,
        "data": str(nerf_data),
        "embeddings": {},
        "max_steps": 2,
    }
    run = TrainingRun(recipe(**settings))
    assert run.model.config.nerf_tokens == "all" and run.train_set.table.row_shape == (3, 12)
    paths = [Path(path) for path in run.train_set.table.paths]
    torch.testing.assert_close(run.train_set.table.values, encoder.encode_tokens([load_nerf(path) for path in paths]))
    report = run.train()
    loaded, processor = load_model(report.output)
    assert processor.embedding_shape == loaded.config.embedding_shape == (3, 12)
    # Tokens are known the second time; one vector a NeRF is another thing, and both stay.
    monkeypatch.setattr(MomentsEncoder, "encode_tokens", lambda *_, **__: pytest.fail("encoded again"))
    again = TrainingRun(recipe(**settings), resume=False)
    assert torch.equal(again.train_set.table.values, run.train_set.table.values)
    monkeypatch.undo()
    vectors = EmbeddingCache(nerf_data / ".embeddings", encoder).embed(paths)
    torch.testing.assert_close(vectors.values, run.train_set.table.values.mean(dim=1))
    assert EmbeddingCache(nerf_data / ".embeddings", encoder, tokens=True).embed([]).values.shape == (0, 3, 12)


def test_the_tokens_of_a_sane_encoder(recipe, nerf_data, tmp_path):
    """What the field shows at some points: the embedding and the latents of the pose, all of which the projector reads."""
    sizes = {"points": 16, "width": 8, "heads": 2, "layers": 1, "feed_forward": 8, "latent_dim": 12, "pose_tokens": 2}
    config = SaneConfig(**sizes, tokens="values", lattice="shells", token_dim=8, window=1, network_tokens=1)
    for part in tiny_model(encoder_config=config, nerf_tokens="all"):
        part.save_pretrained(tmp_path / "model")
    run = TrainingRun(recipe(model=str(tmp_path / "model"), data=str(nerf_data), embeddings={}))
    assert run.train_set.table.row_shape == (3, 12)
    report = run.train()
    losses = [entry["loss"] for entry in report.history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert load_model(report.output)[0].nerf_encoder.config == config

"""Runs that train SANE encoders: losses, labels, exact resume, what is refused."""

import math

import pytest
import torch

from gmn_encoder import Nerf, load_encoder, save_nerf
from gmn_encoder.datasets import PairedDataset
from gmn_encoder.files import read_tensors
from gmn_encoder.pose.rotations import geodesic_angle, matrix_of, random_rotations
from gmn_encoder.training.sane.batches import SaneBatches
from gmn_encoder.training.sane.losses import masked_squares, nt_xent, relative_rotation, rotation_loss
from gmn_encoder.training.sane.model import SaneModel
from gmn_encoder.training.sane.recipe import SaneRecipe, load_sane_recipe
from gmn_encoder.training.sane.task import sane_training

TINY = SaneRecipe(
    families=("hash", "triplane"),
    tokens="values",
    lattice="shells",
    points=24,
    token_dim=8,
    window=1,
    network_tokens=1,
    pose_tokens=2,
    width=16,
    heads=2,
    layers=1,
    feed_forward=32,
    latent_dim=8,
    projection=(8, 8),
    epochs=2,
    batch_size=3,
    learning_rate=1e-3,
    validate_every=1,
    workers=0,
)
ROWS = TINY.changed(tokens="rows", token_dim=256, window=4, network_tokens=64, points=12)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for family, name in (("hash", "HASH-nano"), ("triplane", "TRI-nano")):
        for number in range(8):
            nerf = Nerf.random(name, seed=number)
            save_nerf(
                Nerf(nerf.architecture, {k: 4 * t for k, t in nerf.tensors.items()}), root / family / "c" / str(number)
            )
    (root / "train.txt").write_text("".join(f"c/{number}\n" for number in range(6)))
    (root / "val.txt").write_text("c/6\nc/7\n")
    return root


def maker(data, recipe):
    return SaneBatches(PairedDataset(data, recipe.families, split="train"), recipe)


def test_nt_xent_by_hand():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    # Each row's partner has the cosine 1, the two others 0.
    assert float(nt_xent(a, b, 0.5)) == pytest.approx(math.log(math.exp(2) + 2) - 2)
    same = torch.ones(5, 3)
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(math.log(9), abs=1e-5)


def test_the_label_turns_the_first_view_into_the_second():
    first, second = random_rotations(2, torch.Generator().manual_seed(0))[:, None]
    turn = matrix_of(relative_rotation(first, second)[0])
    torch.testing.assert_close(turn @ matrix_of(first[0]), matrix_of(second[0]), atol=1e-6, rtol=1e-5)


def test_the_rotation_loss_is_a_squared_angle():
    q = torch.tensor([[math.cos(0.25), math.sin(0.25), 0, 0]])
    assert float(rotation_loss(q, torch.eye(4)[:1])) == pytest.approx(0.25)
    assert float(rotation_loss(-q, torch.eye(4)[:1])) == pytest.approx(0.25)
    chance = rotation_loss(*random_rotations(40000, torch.Generator().manual_seed(0)).chunk(2))
    assert float(chance) == pytest.approx(math.pi**2 / 3 + 2, abs=0.1)


def test_padding_does_not_count():
    values, mask = torch.ones(2, 3, 4), torch.zeros(3, 4, dtype=torch.bool)
    mask[0, :2] = True
    total, count = masked_squares(values, torch.zeros_like(values), mask)
    assert float(total) == float(count) == 4


def test_labels_do_not_walk_away(data):
    """The noise of a label stands beside the true rotation; the turns stay what they are, epoch after epoch."""
    batches = maker(data, TINY.changed(label_noise=1.0))
    off = []
    for epoch in range(30):
        for step in range(batches.steps_per_epoch):
            batch = batches.make(epoch, step)
            true = relative_rotation(batch.first.turns, batch.second.turns)
            off += torch.rad2deg(geodesic_angle(true, batch.rotation)).tolist()
    assert max(off[:20]) > 0.1 and max(off) < 6
    assert sum(off[-60:]) / 60 < 2 * sum(off[:60]) / 60


@pytest.mark.parametrize(
    "recipe", [TINY, TINY.changed(rotation_head="moments"), ROWS], ids=["values", "moments", "rows"]
)
def test_all_four_losses_have_gradients(recipe, data):
    model = SaneModel(recipe)
    losses = model(maker(data, recipe).make(0, 0))
    assert set(losses.parts()) == {"reconstruction", "contrastive", "rotation", "latent"}
    losses.total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    network = ["encoder.into.1", "encoder.out.1", "encoder.position.number.1", "encoder.position.layer"]
    allowed = () if recipe.tokens == "rows" else tuple(network)
    assert [name for name in without if not name.startswith(allowed or "-")] == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_identical_files_have_a_finite_loss(data):
    recipe = TINY.changed(label_noise=0, noise=0, contrastive_weight=0.05)
    batch = maker(data, recipe).make(0, 0)
    same = type(batch)(batch.first, batch.first, torch.eye(4)[:1].expand(3, -1))
    model = SaneModel(recipe)
    losses = model(same)
    losses.total.backward()
    assert bool(losses.total.detach().isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_the_control_sees_positions_only(data):
    recipe = TINY.changed(blind=True, noise=0, dropout=0)
    batches = maker(data, recipe)
    losses = SaneModel(recipe)(batches.make(0, 0))
    assert float(losses.contrastive.detach()) == pytest.approx(math.log(5), abs=1e-4)


@pytest.mark.parametrize("recipe", [TINY, ROWS], ids=["values", "rows"])
def test_a_run_ends_where_a_stopped_and_continued_one_does(recipe, data, tmp_path):
    whole = sane_training(recipe, data, out=tmp_path / "whole").run()
    assert whole.finished and whole.steps == 4
    assert {"rotation", "recall@1", "ntxent", "r2/point"} <= set(whole.metrics)
    assert ("r2/network" in whole.metrics) == (recipe.tokens == "rows")
    assert not sane_training(recipe.changed(max_seconds=1e-9), data, out=tmp_path / "parts").run().finished
    while not sane_training(recipe.changed(max_seconds=1e-9), data, out=tmp_path / "parts").run().finished:
        pass
    a, b = (read_tensors(tmp_path / name / "last/trainer.pth")[0]["encoder"] for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    encoder = load_encoder(tmp_path / "whole" / "best")
    assert encoder.config == recipe.encoder_config


def test_recipes_that_ship():
    paper, small = load_sane_recipe(), load_sane_recipe("sane-small", ["epochs=3"])
    assert paper.encoder_config.points == 380 and paper.encoder_config.width == 1024 and paper.rotation_weight == 0.53
    assert small.epochs == 3 and small.encoder_config.rotation_head == "moments"
    with pytest.raises(FileNotFoundError, match="sane-paper, sane-small"):
        load_sane_recipe("sane-large")


def test_what_does_not_fit_is_said(data, tmp_path):
    with pytest.raises(ValueError, match="6 objects do not fill a step"):
        sane_training(TINY.changed(batch_size=7), data, out=tmp_path / "a")
    with pytest.raises(ValueError, match="contrastive loss compares objects"):
        TINY.changed(batch_size=1)
    load_encoder_at = tmp_path / "other"
    SaneModel(TINY.changed(width=8)).encoder.save_pretrained(load_encoder_at)
    with pytest.raises(ValueError, match="has other sizes than the recipe's"):
        sane_training(TINY, data, out=tmp_path / "b", init=load_encoder_at)

"""Training of an encoder with probes: batches of all families, moved objects, point regression, what validation watches."""

import dataclasses
import json
import math

import pytest
import torch

from gmn_encoder import GmnEncoder, load_encoder
from gmn_encoder.datasets import PairedDataset
from gmn_encoder.nerfs.probing import visible_field
from gmn_encoder.training.representation.batches import BatchMaker
from gmn_encoder.training.representation.model import TrainedModel
from gmn_encoder.training.representation.pairs import epoch_batches
from gmn_encoder.training.representation.recipe import load_recipe
from gmn_encoder.training.representation.siglip import InfoNceLoss
from gmn_encoder.training.representation.task import encoder_training

from .conftest import OBJECTS, TINY, write_set
from .test_task import assert_same_run

PROBES = TINY.changed(
    loss="c",
    probes=64,
    probe_dim=16,
    token_grid=2,
    readout_dim=16,
    sampling="all",
    contrastive="infonce",
    regression_weight=1.0,
    regression_points=8,
    augment=True,
    augment_turn=180,
    batch_size=6,
    select="recall",
)


def maker(nerf_set, recipe):
    return BatchMaker(PairedDataset(nerf_set, recipe.families, split="train"), recipe)


def test_objects_come_in_every_family():
    batches = epoch_batches(5, 3, batch_size=6, seed=0, epoch=0, every_family=True)
    members = [member for (batch,) in batches for member in batch]
    assert [len(batch) for (batch,) in batches] == [6, 6, 3]
    assert [family for family, _ in members] == [0, 1, 2] * 5
    assert all(members[i][1] == members[i + 2][1] for i in range(0, 15, 3))
    assert sorted({number for _, number in members}) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="batch_size is 4; expected a multiple of 3"):
        epoch_batches(5, 3, batch_size=4, seed=0, epoch=0, every_family=True)


def test_info_nce():
    """Its formula, and that the right pairs have the lowest loss of all."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(5, 7, generator=generator), torch.randn(5, 7, generator=generator)
    loss = InfoNceLoss(temperature=4.0).requires_grad_(False)
    cosine = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    right = -(4 * cosine).log_softmax(1).diag().mean() / 2 - (4 * cosine).log_softmax(0).diag().mean() / 2
    torch.testing.assert_close(loss(a, b), right)
    assert float(loss(a, a)) < float(loss(a, a.roll(1, 0)))
    with pytest.raises(ValueError, match="temperature is 90"):
        InfoNceLoss(temperature=90)


def test_objects_move_alike_in_all_families(nerf_set):
    batch = maker(nerf_set, PROBES).make(0, 0)
    linear = batch.asked.linear.view(2, 3, 3, 3)
    assert torch.equal(linear[:, 0], linear[:, 1]) and torch.equal(linear[:, 0], linear[:, 2])
    assert not torch.equal(linear[0], linear[1])
    other = maker(nerf_set, PROBES).make(1, 0)
    assert not torch.equal(batch.asked.linear, other.asked.linear)


def test_motion_is_a_turn_a_stretch_a_shift_and_a_mirror(nerf_set):
    asked = maker(nerf_set, PROBES).make(0, 0).asked
    for linear in asked.linear:
        stretch = linear.norm(dim=0)
        assert bool(((stretch > 0.85) & (stretch < 1.15)).all())
        axes = linear / stretch
        torch.testing.assert_close(axes.T @ axes, torch.eye(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(axes[:, 2], torch.tensor([0.0, 0, 1]))
    assert float(asked.offset.abs().max()) <= 0.04
    xyz = torch.rand(6, 5, 3) - 0.5
    owner = torch.arange(6).repeat_interleave(5)
    back = asked.of_moved(asked.moved(xyz).flatten(0, 1), owner)
    torch.testing.assert_close(back, xyz.flatten(0, 1), rtol=0, atol=1e-5)


def test_what_the_encoder_reads_is_the_moved_field(nerf_set):
    """Each NeRF is asked where its own motion takes the points, in the order of the batch."""
    batch, model = maker(nerf_set, PROBES).make(0, 0), TrainedModel(PROBES)
    reading = model.read(batch)
    points = batch.asked.moved(model.encoder.probe_points)
    for row in range(len(batch)):
        place = int(batch.order[row])
        stacks = [(nerfs, i) for nerfs in batch.nerfs for i in range(len(nerfs))]
        nerfs, number = stacks[place]
        own = visible_field(nerfs, points[row].expand(len(nerfs), -1, -1))[number]
        torch.testing.assert_close(reading.fields[row], own, rtol=1e-5, atol=1e-6)


def test_recoloured_objects(nerf_set):
    """Channels change places and are inverted, alike in all families; what is seen of 1 - c is opacity - seen."""
    batch = maker(nerf_set, PROBES.changed(augment_colour=0.999)).make(0, 0)
    asked, model = batch.asked, TrainedModel(PROBES)
    for part in (asked.channels, asked.inverted):
        rows = part.view(2, 3, 3)
        assert torch.equal(rows[:, 0], rows[:, 1]) and torch.equal(rows[:, 0], rows[:, 2])
    plain = dataclasses.replace(batch, asked=maker(nerf_set, PROBES).make(0, 0).asked)
    assert torch.equal(plain.asked.points, asked.points)
    before, after = (model.ask(each, asked.points) for each in (plain, batch))
    torch.testing.assert_close(after[..., 3], before[..., 3])
    for row in range(len(batch)):
        for channel in range(3):
            old = before[row, :, asked.channels[row, channel]]
            new = before[row, :, 3] - old if asked.inverted[row, channel] else old
            torch.testing.assert_close(after[row, :, channel], new)
    one = asked.recoloured(before[4, :, :3], before[4, :, 3:], torch.full((8,), 4))
    torch.testing.assert_close(one, after[4, :, :3])


def test_fields_on_grids(nerf_set):
    """They are asked once; what is read between their points is near what the NeRFs show."""
    recipe = PROBES.changed(field_grid=24)
    batch, exact = maker(nerf_set, recipe).make(0, 0), maker(nerf_set, PROBES).make(0, 0)
    assert batch.fields.shape == (6, 24**3, 4) and exact.fields is None
    model = TrainedModel(PROBES)
    inside = batch.asked.points * 0.8
    read, asked = model.ask(batch, inside), model.ask(exact, inside)
    assert float((read - asked).abs().mean()) < 0.03 < float((asked - asked.roll(1, 0)).abs().mean())


def test_a_graph_network_joins_probes_that_learnt_alone(nerf_set, tmp_path):
    encoder_training(PROBES.changed(graph=False, readout_dim=0), nerf_set, out=tmp_path / "probes").run()
    recipe = PROBES.changed(freeze="probes", readout_families=["mlp", "triplane", "hash"])
    encoder_training(recipe, nerf_set, out=tmp_path / "both", init=tmp_path / "probes" / "last").run()
    before, after = (load_encoder(tmp_path / each / "last") for each in ("probes", "both"))
    assert not before.config.graph and after.config.graph
    assert torch.equal(before.probes.first.weight, after.probes.first.weight)
    assert float(after.gate.detach().abs()) > 0
    with pytest.raises(ValueError, match="probe_dim 16, the recipe has 8"):
        wider = recipe.changed(probe_dim=8)
        encoder_training(wider, nerf_set, out=tmp_path / "no", init=tmp_path / "probes" / "last")


def test_losses(nerf_set):
    """The contrastive loss is the mean over pairs of families; the regression compares what is seen at the moved points."""
    batch, model = maker(nerf_set, PROBES).make(0, 0), TrainedModel(PROBES).eval()
    losses = model(batch)
    sides = model.embed(batch).view(2, 3, -1).unbind(1)
    pairs = [model.infonce(sides[i], sides[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(losses.contrastive, torch.stack(pairs).mean())
    torch.testing.assert_close(losses.total, losses.contrastive + losses.regression)
    with torch.no_grad():
        rgb, density = model.decoder(model.embed(batch), batch.asked.points)
        alpha = 1 - torch.exp(-density * 1.4 / 32)
        seen = torch.cat([rgb * alpha, alpha], dim=-1)
        target = torch.cat(
            [
                visible_field(n, p)
                for n, p in zip(batch.nerfs, batch.by_stack(batch.asked.moved(batch.asked.points)), strict=True)
            ]
        )[batch.order]
        whole = (seen - target).square().mean()
    assert float(losses.regression.detach()) > float(whole) > 0


def test_a_run_learns_both_senses_and_goes_on_to_the_same_bits(nerf_set, tmp_path):
    whole = encoder_training(PROBES, nerf_set, out=tmp_path / "whole").run()
    assert whole.metrics.keys() >= {"psnr", "recall@1", "siglip"}
    encoder = load_encoder(tmp_path / "whole" / "last")
    assert isinstance(encoder, GmnEncoder)
    assert float(encoder.gate.detach().abs()) > 0
    encoder_training(PROBES.changed(max_seconds=1e-9), nerf_set, out=tmp_path / "parts").run()
    encoder_training(PROBES, nerf_set, out=tmp_path / "parts").run()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    again = encoder_training(PROBES, nerf_set, out=tmp_path / "new", init=tmp_path / "whole" / "last")
    assert torch.equal(again.task.model.encoder.probes.first.weight, encoder.probes.first.weight)


def test_rendering_follows_a_moved_object(nerf_set):
    """With the rendering loss the decoder is asked where the samples went: a decoder of the moved field has the same loss."""
    recipe = PROBES.changed(loss="r", regression_weight=0.0, select="psnr")
    batch, model = maker(nerf_set, recipe).make(0, 0), TrainedModel(recipe)
    asked = []
    field = model.decoder.field

    def spy(embeddings):
        inner = field(embeddings)

        def query(xyz, owner):
            asked.append((xyz, owner))
            return inner(xyz, owner)

        return query

    model.decoder.field = spy
    model(batch)
    ((xyz, owner),) = asked
    still = torch.einsum("sij,sj->si", batch.asked.linear[owner], xyz) + batch.asked.offset[owner]
    rendering = batch.rendering
    expected = torch.cat([rendering.samples.positions(rendering.rays), rendering.points])
    torch.testing.assert_close(still, expected, rtol=0, atol=1e-5)


def test_validation_watches_other_directories(tmp_path):
    """The same objects from other first weights: measured, not trained on, and named where an object is missing."""
    from .conftest import ARCHITECTURES

    write_set(tmp_path, {**ARCHITECTURES, "other": ARCHITECTURES["mlp"]}, OBJECTS)
    sizes = {**ARCHITECTURES, "other": ARCHITECTURES["mlp"]}
    recipe = PROBES.changed(epochs=1, watch=["other"], architectures=sizes)
    encoder_training(recipe, tmp_path, out=tmp_path / ".run").run()
    metrics = json.loads((tmp_path / ".run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= metrics["recall@1/other"] <= 1
    assert "psnr/other" in metrics
    of_families = [metrics[f"psnr/{family}"] for family in PROBES.families]
    assert metrics["psnr"] == pytest.approx(sum(of_families) / 3)
    for watch, found in ((None, ("other",)), ([], ())):
        task = encoder_training(PROBES.changed(watch=watch), tmp_path, out=tmp_path / ".none").task
        assert task.validation._watched == found
    (tmp_path / "half").mkdir()
    with pytest.raises(ValueError, match="half: 3 of 3 validation objects are missing"):
        encoder_training(PROBES.changed(watch=["half"]), tmp_path, out=tmp_path / ".half")


def test_recipe_probes():
    recipe = load_recipe("probes")
    joined = load_recipe("probes_graph")
    assert recipe.encoder_config.probes == 1024 and not recipe.encoder_config.graph
    assert joined.encoder_config.graph and joined.freeze == "probes" and joined.readout_families == joined.families
    for name in ("probes", "probe_dim", "token_grid", "embedding_dim"):
        assert getattr(joined.encoder_config, name) == getattr(recipe.encoder_config, name)
    assert joined.decoder_config == recipe.decoder_config  # they go on from it
    assert recipe.views == 3 and recipe.decodes and not recipe.renders
    assert load_recipe("nano").encoder_config.probes == load_recipe("paper").encoder_config.probes == 0
    assert math.isclose(recipe.augment_turn, 20)

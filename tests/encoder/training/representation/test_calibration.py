"""The start that depends on data: what decoder and readout make of the examples, worked out beside them."""

from __future__ import annotations

import pytest
import torch

from gmn_encoder import parameter_graph
from gmn_encoder.datasets import PairedDataset
from gmn_encoder.encoders.decoder import DecoderConfig, NerfDecoder
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.training.representation.batches import BatchMaker
from gmn_encoder.training.representation.calibration import calibrate_decoder, calibrate_head
from gmn_encoder.training.representation.model import TrainedModel

from .conftest import TINY


def test_calibration_of_the_decoder_centres_and_scales_what_it_reads():
    """Over the embeddings given: without their mean, and with a spread of one a unit."""
    decoder = NerfDecoder(DecoderConfig(embedding_dim=6, hidden_dim=64, frequencies=2))
    embeddings = 5 + 0.1 * torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)
    layer = decoder.in_layer[0]
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    calibrate_decoder(decoder, embeddings)
    with torch.no_grad():
        seen = torch.nn.functional.linear(embeddings, layer.weight[:, :6], layer.bias)
    torch.testing.assert_close(seen.mean(dim=0), bias, rtol=0, atol=1e-4)
    standard = (embeddings - embeddings.mean(dim=0)) / embeddings.std(dim=0, correction=0)
    torch.testing.assert_close(seen - bias, standard @ weight[:, :6].T, rtol=1e-3, atol=1e-4)
    assert torch.equal(layer.weight[:, 6:], weight[:, 6:])


def test_calibration_of_the_readout_makes_embeddings_differ(nerf_set):
    maker = BatchMaker(PairedDataset(nerf_set, TINY.families, split="train"), TINY)
    batch, nerfs = maker.make(0, 0), maker.examples(2)
    model = TrainedModel(TINY.changed(calibrate=True, active=0.1))

    def spread():
        with torch.no_grad():
            found = torch.cat([model.encoder.embed(nerfs) for nerfs in batch.nerfs])
        assert bool((found > -1e-6).all())
        return max(
            float(s.std(dim=0).norm() / s.mean(dim=0).norm())
            for s in found.split([len(n) for n in batch.nerfs])
            if len(s) > 1
        )

    before = spread()
    model.calibrate(nerfs)
    assert spread() > 3 * before
    again = TrainedModel(TINY.changed(calibrate=True, active=0.1))
    again.calibrate(nerfs)
    weights = (each.encoder.gnn_w_readout.readout.mlp[0].weight for each in (model, again))
    torch.testing.assert_close(*weights)
    with torch.no_grad():
        nerf = batch.nerfs[0]
        one = Nerf(nerf.architecture, {key: tensor[0] for key, tensor in nerf.tensors.items()})
    torch.testing.assert_close(
        model.encoder(parameter_graph(one))[0], model.encoder.embed(nerf)[0], rtol=1e-3, atol=1e-4
    )


def test_calibration_of_the_head_whitens_within_families(nerf_set):
    """Without the families' means, which no direction sees; every direction with the same spread but those under the floor."""
    recipe = TINY.changed(calibrate=True, embedding_dim=3, readout_dim=32)
    nerfs = BatchMaker(PairedDataset(nerf_set, TINY.families, split="train"), recipe).examples(6)
    model = TrainedModel(recipe)
    model.calibrate(nerfs)
    whitening = model.encoder.head.whitening
    found = torch.nn.functional.linear(model.encoder.encode_readouts(nerfs), whitening.weight, whitening.bias)
    found = found.detach().double().view(3, 6, 3)
    means = found.mean(dim=1)
    assert float((means - means.mean(dim=0)).abs().max()) < 1e-3 * float(found.abs().max())
    within = found - means[:, None]
    shares = within / within.square().sum(dim=2).mean(dim=1).sqrt()[:, None, None]
    covariance = torch.einsum("fnd,fne->de", shares, shares)
    off = covariance - torch.diag(covariance.diagonal())
    assert float(off.abs().max()) < 0.05 * float(covariance.diagonal().max())
    assert float(covariance.diagonal().min()) > 0.5 * float(covariance.diagonal().max())
    assert torch.equal(model.encoder.head.mixing.weight, torch.eye(3))


def test_a_head_needs_directions_in_which_nerfs_differ(nerf_set):
    recipe = TINY.changed(calibrate=True, embedding_dim=8, readout_dim=8)
    nerfs = BatchMaker(PairedDataset(nerf_set, TINY.families, split="train"), recipe).examples(6)
    with pytest.raises(ValueError, match="set a larger readout_dim"):
        TrainedModel(recipe).calibrate(nerfs)
    with pytest.raises(ValueError, match="has no head"):
        calibrate_head(TrainedModel(TINY).encoder, torch.zeros(1, 16), ["mlp"])

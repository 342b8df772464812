"""The encoder's second sense: both paths, invariances, tokens, precision, files, bad input."""

import dataclasses

import pytest
import torch
from torch_geometric.data import Batch

from gmn_encoder import GmnConfig, GmnEncoder, Nerf, NerfBatch, load_encoder, parameter_graph
from gmn_encoder.encoders.frozen import frozen, frozen_copy
from gmn_encoder.encoders.gmn.encoder import Reading
from gmn_encoder.encoders.gmn.probes import sobol_points
from gmn_encoder.nerfs.probing import shown, visible_field
from tests.encoder.nerfs.test_probing import Fog

SMALL = GmnConfig(hidden_dim=8, embedding_dim=12, num_layers=2, probes=64, probe_dim=16, token_grid=2)
ARCHITECTURES = ["MLP-nano", "TRI-nano", "HASH-nano", "MLP-nano"]


def opaque(name, seed):
    """A random NeRF that is opaque here and there."""
    nerf = Nerf.random(name, seed=seed)
    return Nerf(nerf.architecture, {**nerf.tensors, "mlp_base.params": nerf.tensors["mlp_base.params"] * 5})


@pytest.fixture(scope="module")
def nerfs():
    return [opaque(name, seed) for seed, name in enumerate(ARCHITECTURES)]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    made = GmnEncoder(SMALL).eval()
    with torch.no_grad():
        made.gate.fill_(0.7)
        readouts = made.read(NerfBatch.stack([opaque("HASH-nano", seed) for seed in range(4)])).readouts
        made.head.norm.running_mean.copy_(readouts.mean(dim=0))
        made.head.norm.running_var.copy_(readouts.var(dim=0))
    return made


def test_points():
    """As many in each cell of the grid, side by side; inside the box; the same for every encoder."""
    encoder = GmnEncoder(dataclasses.replace(SMALL, probes=1024, token_grid=4))
    points = encoder.probe_points
    assert points.shape == (1024, 3)
    assert float(points.abs().max()) < 0.69
    cells = encoder.probes.cells(points).view(64, 16)
    assert torch.equal(cells, torch.arange(64)[:, None].expand(64, 16))
    assert torch.equal(points, GmnEncoder(encoder.config).probe_points)
    assert len(points.unique(dim=0)) == 1024
    spread = sobol_points(1024, 4).double().std(dim=0) / 2**20
    torch.testing.assert_close(spread, torch.full((3,), 12**-0.5, dtype=torch.float64), rtol=0.01, atol=0)


def test_both_paths(encoder, nerfs):
    expected = encoder.encode(nerfs)
    graphs = [parameter_graph(nerf, probes=encoder.probe_points) for nerf in nerfs]
    with torch.no_grad():
        torch.testing.assert_close(encoder(Batch.from_data_list(graphs)), expected, rtol=0, atol=0.05)
        exact = encoder.double()
        graphs = [parameter_graph(nerf.to(torch.float64), probes=encoder.probe_points) for nerf in nerfs]
        torch.testing.assert_close(exact(Batch.from_data_list(graphs)), exact.encode(nerfs), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(expected.norm(dim=1), torch.full((4,), 12**0.5))


def test_each_sense_takes_part(encoder, nerfs):
    """With a gate of zero the graph adds nothing: what is left are the probes."""
    both = encoder.encode(nerfs)
    with torch.no_grad():
        encoder.gate.zero_()
    alone = GmnEncoder(dataclasses.replace(SMALL, graph=False)).eval()
    alone.load_state_dict({key: value for key, value in encoder.state_dict().items() if key.startswith("probes.")})
    torch.testing.assert_close(encoder.encode(nerfs), alone.encode(nerfs))
    assert float((both - encoder.encode(nerfs)).abs().max()) > 0.05
    assert {name.split(".")[0] for name, _ in alone.named_parameters()} == {"probes"}


def test_probes_are_invariant_where_weights_are_not(encoder):
    """A rescaling of ReLU neurons leaves the field alone; the graph network sees other weights."""
    nerf = opaque("HASH-nano", seed=3)
    architecture = nerf.architecture
    weights = nerf.tensors["mlp_base.params"].clone()
    matrices, _ = architecture.layers(
        {**{key: t[None] for key, t in nerf.tensors.items()}, "mlp_base.params": weights[None]}
    )
    factors = torch.linspace(0.1, 10, matrices[0].shape[1])
    matrices[0][0].mul_(factors[:, None])  # views of the weights
    matrices[1][0].div_(factors)
    other = Nerf(architecture, {**nerf.tensors, "mlp_base.params": weights})
    points = encoder.probe_points
    for a, b in zip(nerf.query(points), other.query(points), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        moved = (encoder.encode([nerf]) - encoder.encode([other])).abs().max()
        encoder.gate.zero_()
        still = (encoder.encode([nerf]) - encoder.encode([other])).abs().max()
    assert float(still) < 1e-3 < 0.05 < float(moved)


def test_readouts_standardised_in_each_family(nerfs):
    """Both paths agree; in training each family's rows have no mean and unit spread, and families never seen that of all."""
    config = dataclasses.replace(SMALL, readout_families=("mlp", "hash"))
    torch.manual_seed(0)
    encoder = GmnEncoder(config)
    readouts = torch.randn(6, config.readout_units) + torch.tensor([0.0, 0, 0, 5, 5, 5])[:, None]
    families = torch.tensor([0, 0, 0, 1, 1, 1])
    standardised = encoder.head._standardised(readouts, families).view(2, 3, -1)
    torch.testing.assert_close(standardised.mean(dim=1), torch.zeros(2, 12), rtol=0, atol=1e-5)
    torch.testing.assert_close(standardised.square().mean(dim=1), torch.ones(2, 12), rtol=0, atol=1e-4)
    mean, variance = encoder.head._of_all()
    torch.testing.assert_close(mean, torch.stack([norm.running_mean for norm in encoder.head.norm]).mean(dim=0))
    encoder.eval()
    unseen = encoder.head._standardised(readouts[:1], torch.tensor([-1]))
    torch.testing.assert_close(unseen, (readouts[:1] - mean) / variance.sqrt())
    assert encoder.train().head(readouts[:1], torch.tensor([0])).shape == (1, 12)  # one NeRF has no spread
    with torch.no_grad():
        encoder.eval().gate.fill_(0.7)
        graphs = [parameter_graph(nerf, probes=encoder.probe_points) for nerf in nerfs]
        found = encoder(Batch.from_data_list(graphs))
    torch.testing.assert_close(found, encoder.encode(nerfs), rtol=0, atol=0.05)
    assert GmnConfig.from_dict(config.to_dict()) == config
    assert "readout_families" not in SMALL.to_dict()


def test_pooled_tokens(nerfs):
    """Cells that share a token have the mean of theirs; the grid need not be a power of two."""
    torch.manual_seed(0)
    fine = GmnEncoder(dataclasses.replace(SMALL, probes=648, token_grid=3, graph=False)).eval()
    cells = fine.probes.cells(fine.probe_points)
    assert torch.equal(cells.bincount(), torch.full((27,), 24)) and torch.equal(cells, cells.sort().values)
    coarse = GmnEncoder(dataclasses.replace(fine.config, token_pool=3)).eval()
    coarse.load_state_dict(fine.state_dict())
    tokens, pooled = fine.encode_tokens(nerfs), coarse.encode_tokens(nerfs)
    assert tokens.shape == (4, 28, 12) and pooled.shape == (4, 2, 12)
    assert torch.equal(tokens[:, 0], pooled[:, 0])
    torch.testing.assert_close(tokens.square().mean(dim=-1), torch.ones(4, 28))
    mean = tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(pooled[:, 1], mean / mean.square().mean(dim=-1, keepdim=True).sqrt())
    wide = GmnEncoder(dataclasses.replace(SMALL, probes=512, token_grid=4, token_pool=2)).probes
    local = wide.tokens(torch.rand(1, 512, 4))
    assert local.shape == (1, 8, 12)
    assert wide.cells(torch.tensor([[-0.6, -0.6, -0.6], [0.6, -0.1, 0.6]])).tolist() == [0, 5]


def test_tokens(encoder, nerfs):
    """The embedding, then a token for each cell, which its own points decide."""
    tokens = encoder.encode_tokens(nerfs)
    assert tokens.shape == (4, 9, 12)
    assert encoder.config.num_tokens == 9
    torch.testing.assert_close(tokens[:, 0], encoder.encode(nerfs))
    fields = torch.zeros(1, 64, 4)
    fields[:, 24:32] = 0.5  # the fourth cell
    with torch.no_grad():
        changed = (encoder.probes.tokens(fields) - encoder.probes.tokens(torch.zeros(1, 64, 4))).abs().amax(dim=(0, 2))
    assert changed.nonzero()[:, 0].tolist() == [3]
    without = GmnEncoder(dataclasses.replace(SMALL, token_grid=0)).eval()
    assert without.encode_tokens(nerfs).shape == (4, 1, 12)


def test_families_without_a_graph(encoder, nerfs):
    """The probes alone embed them: what an encoder with a closed gate says."""
    fog = Nerf(Fog(), {"values": torch.tensor([0.1, 0.5, 0.9, 12.0])})
    mixed = encoder.encode([nerfs[0], fog])
    with torch.no_grad():
        encoder.gate.zero_()
    torch.testing.assert_close(mixed[1], encoder.encode([fog])[0], rtol=0, atol=2e-3)
    with pytest.raises(ValueError, match="no parameter graph"):
        GmnEncoder(GmnConfig(hidden_dim=8, embedding_dim=12)).encode([fog])


def test_answers_may_be_known(encoder, nerfs):
    """Training gives those of moved and recoloured objects; those at the encoder's points give the embedding itself."""
    batch = NerfBatch.stack([nerfs[0], nerfs[3]])
    points = encoder.probe_points
    with torch.no_grad():
        same = encoder.combine(encoder.read(batch, fields=visible_field(batch, points)))
        moved = encoder.combine(encoder.read(batch, fields=visible_field(batch, points * 0.9)))
    torch.testing.assert_close(same, encoder.embed(batch))
    assert float((moved - same).abs().max()) > 1e-3


def test_half_precision_asks_at_the_same_points(encoder, nerfs):
    """The frozen encoder in a model that is cast stays exact; a cast one keeps its points."""
    expected, points = encoder.encode(nerfs), encoder.probe_points
    copy = frozen_copy(encoder).to(torch.bfloat16)
    assert torch.equal(copy.encode(nerfs), expected)
    assert torch.equal(copy.encode_tokens(nerfs), encoder.encode_tokens(nerfs))
    assert torch.equal(encoder.to(torch.bfloat16).probe_points, points)


def test_files(encoder, nerfs, tmp_path):
    encoder.save_pretrained(tmp_path)
    again = load_encoder(tmp_path)
    assert again.config == SMALL
    assert again.fingerprint() == encoder.fingerprint()
    assert torch.equal(again.encode(nerfs), encoder.encode(nerfs))
    with torch.device("meta"):
        assert frozen(GmnEncoder)(SMALL).probes.places.is_meta


def test_released_configurations_stay_as_they_were():
    values = GmnConfig().to_dict()
    assert values.keys().isdisjoint({"probes", "probe_dim", "token_grid", "graph", "readout_dim"})
    assert GmnEncoder(GmnConfig(hidden_dim=8, embedding_dim=8)).probe_points is None
    assert SMALL.to_dict()["probes"] == 64


def test_bad_input(encoder, nerfs):
    with pytest.raises(ValueError, match="no probe_values; this encoder also asks the field at 64 points: make it by"):
        encoder(parameter_graph(nerfs[0]))
    with pytest.raises(ValueError, match=r"probe_values of shape \[1, 7, 4\]"):
        encoder(parameter_graph(nerfs[0], probes=encoder.probe_points[:7]))
    broken = Nerf(Fog(), {"values": torch.tensor([0.0, 0, 0, 3e38])}, source="here.pth")
    object.__setattr__(broken, "tensors", {"values": torch.tensor([0.0, 0, 0, torch.inf])})
    with pytest.raises(ValueError, match=r"here.pth: its field is NaN or infinite somewhere"):
        encoder.encode([nerfs[0], broken])
    for sizes, message in (
        ({"probes": 100}, "multiple of 8 in 64..131072, as many points in each cell of the grid, got 100"),
        ({"probes": 32}, "multiple of 8 in 64"),
        ({"token_grid": 3}, "probes must be a multiple of 27"),
        ({"token_pool": 3}, "token_pool must divide token_grid = 2"),
        ({"readout_families": "mlp"}, "readout_families must be a list of names"),
        ({"probes": 0, "graph": False}, "nothing is read"),
        ({"graph": 1}, "true or false"),
        ({"probes": -1}, "at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(SMALL, **sizes)


def test_moved(nerfs):
    """A moved encoder says of a NeRF what the encoder itself says of the field that was moved; weights alone cannot be moved."""
    encoder = GmnEncoder(dataclasses.replace(SMALL, graph=False)).eval()
    turn = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    shift = torch.tensor([0.02, -0.03, 0.01])
    # Asked at 1.25 R^T (x - shift), a NeRF shows its object turned by R and 0.8 times as large.
    moved = encoder.moved(1.25 * turn.T, -1.25 * turn.T @ shift)
    with torch.no_grad():
        for nerf in nerfs:
            seen = shown(*nerf.query((encoder.probe_points - shift) @ turn / 0.8))[None]
            assert not torch.allclose(seen, visible_field(NerfBatch.stack([nerf]), encoder.probe_points), atol=1e-3)
            expected = encoder.combine(Reading(None, seen, None))
            torch.testing.assert_close(moved.encode([nerf]), expected, rtol=0, atol=2e-2)
    assert moved.fingerprint() != encoder.fingerprint()
    same = encoder.moved(torch.eye(3), torch.zeros(3))
    torch.testing.assert_close(same.encode(nerfs), encoder.encode(nerfs), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="reads weights alone"):
        GmnEncoder(dataclasses.replace(SMALL, probes=0, token_grid=0)).moved(torch.eye(3), torch.zeros(3))

"""The options of the encoder: both paths, invariances as numbers, and that encoders without them are what they were."""

import itertools

import pytest
import torch
from torch_geometric.data import Batch, Data

from gmn_encoder import GmnConfig, GmnEncoder, HashArchitecture, MlpArchitecture, Nerf, NerfBatch, parameter_graph
from gmn_encoder.encoders.gmn import dense
from gmn_encoder.encoders.gmn.graph import build_parameter_graph
from gmn_encoder.nerfs.architectures import NAMED_ARCHITECTURES
from gmn_encoder.nerfs.symmetries import SYMMETRIES
from tests.encoder.nerfs.symmetries import ARCHITECTURES, CASES

SIZES = {"hidden_dim": 16, "embedding_dim": 24, "num_layers": 3}
CHOICES = [{option: True} for option in GmnConfig.OPTIONS] + [dict.fromkeys(GmnConfig.OPTIONS, True)]


def random_encoder(**options):
    torch.manual_seed(0)
    encoder = GmnEncoder(GmnConfig(**SIZES, **options)).double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def vivid(architecture, seed=0):
    nerf = Nerf.random(architecture, seed=seed, dtype=torch.float64)
    return Nerf(architecture, {key: tensor * 3 for key, tensor in nerf.tensors.items()})


def relative_error(value, expected):
    return ((value.double() - expected.double()).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("options", CHOICES, ids=" ".join)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_paths_agree_in_values_and_gradients(architecture, options):
    encoder = random_encoder(**options, layout="geometric")
    nerfs = [vivid(architecture, seed) for seed in range(2)]
    for nerf in nerfs:
        for tensor in nerf.tensors.values():
            tensor.requires_grad_()
    inputs = [*encoder.parameters(), *[tensor for nerf in nerfs for tensor in nerf.tensors.values()]]
    direction = torch.randn(2, 24, dtype=torch.float64)
    graphs = [parameter_graph(nerf, **encoder.config.graph_options) for nerf in nerfs]
    by_edges, by_blocks = encoder(Batch.from_data_list(graphs)), encoder.embed(NerfBatch.stack(nerfs))
    torch.testing.assert_close(by_blocks, by_edges, rtol=1e-9, atol=1e-11)
    gradients = [
        torch.autograd.grad((result * direction).sum(), inputs, allow_unused=True, materialize_grads=True)
        for result in (by_edges, by_blocks)
    ]
    scale = max(gradient.abs().max().item() for gradient in gradients[0])
    for expected, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-10 * scale)


@pytest.mark.parametrize("tile", [1, 50, 10**6])
def test_tiling_does_not_matter(tile, monkeypatch):
    encoder = random_encoder(**CHOICES[-1])
    nerfs = [vivid(architecture, seed) for architecture in ARCHITECTURES for seed in range(3)]
    expected = encoder.encode(nerfs, batch_size=3)
    monkeypatch.setattr(dense, "_CPU_TILE", tile * encoder.config.hidden_dim)
    torch.testing.assert_close(encoder.encode(nerfs, batch_size=2), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("architecture", "symmetry"), CASES, ids=lambda value: getattr(value, "name", value))
def test_canonical_encoders_do_not_see_symmetries(architecture, symmetry):
    nerf, different = vivid(architecture), vivid(architecture, seed=1)
    same = SYMMETRIES[symmetry](nerf, torch.Generator().manual_seed(7))
    encoder, plain = random_encoder(canonical=True), random_encoder()
    embedded = encoder.encode([nerf, same, different])
    apart = (embedded[2] - embedded[0]).norm()
    assert (embedded[1] - embedded[0]).norm() < 1e-8 * apart
    single = encoder.float().encode([each.to(torch.float32) for each in (nerf, same, different)])
    assert relative_error(single[1], single[0]) < 1e-5
    # Without the option all are seen but for the order of neurons, and for padding that is no edge.
    seen = plain.encode([nerf, same, different])
    moved = (seen[1] - seen[0]).norm() / (seen[2] - seen[0]).norm()
    if symmetry == "permuted" or (symmetry == "padding_moved" and "triplane" in nerf.tensors and not architecture.bias):
        assert moved < 1e-8
    else:
        assert moved > 1e-3
        assert relative_error(seen[1], seen[0]) > 1e-5


@pytest.mark.parametrize("name", ["MLP", "TRI", "HASH"])
def test_all_symmetries_at_once_at_the_papers_sizes(name):
    """In float32: rounding of one is not what another makes large."""
    nerf, generator = vivid(NAMED_ARCHITECTURES[name]), torch.Generator().manual_seed(3)
    same = nerf
    for symmetry in SYMMETRIES.values():
        same = symmetry(same, generator) or same
    nerfs = [each.to(torch.float32) for each in (nerf, same)]
    embedded, plain = (random_encoder(canonical=on).float().encode(nerfs) for on in (True, False))
    assert relative_error(embedded[1], embedded[0]) < 1e-5
    assert relative_error(plain[1], plain[0]) > 1e-3


def test_standardised_values():
    """Those of layers of n inputs times sqrt(n), tables as they are."""
    nerf = vivid(HashArchitecture(hidden_dim=16, levels=3, log2_table_size=6))
    plain, scaled = parameter_graph(nerf), parameter_graph(nerf, standardised=True)
    factors = torch.tensor([1.0] * 3 * 128 + [4.0] * (len(plain.edge_attr) - 3 * 128), dtype=torch.float64)
    assert torch.equal(scaled.edge_attr[:, 0], plain.edge_attr[:, 0] * factors)
    assert torch.equal(scaled.edge_attr[:, 1:], plain.edge_attr[:, 1:])
    assert scaled.options == "standardised"


@pytest.mark.parametrize("name", NAMED_ARCHITECTURES)
@pytest.mark.parametrize("layout", ["released", "geometric"])
def test_bounded_numbers_are_bounded(name, layout):
    graph = build_parameter_graph(NAMED_ARCHITECTURES[name], layout, bounded_positions=True)
    raw = build_parameter_graph(NAMED_ARCHITECTURES[name], layout)
    x, before = graph.node_features(), raw.node_features()
    attributes = torch.cat([block.attributes for block in graph.blocks])
    assert x[:, :2].min() == -1
    assert x[:, :2].max() == 1
    assert attributes[:, 0].aminmax() == (0, 1)
    assert attributes[:, 2:].abs().max() == 1
    assert torch.equal(x[:, 2], before[:, 2].float())
    assert torch.equal(attributes[:, 1], torch.cat([block.attributes[:, 1] for block in raw.blocks]))
    indices = before[before[:, 0] == before[:, 0].max(), 1]
    torch.testing.assert_close(x[-len(indices) :, 1], indices / 15)  # 16 outputs


def test_bounded_encoders_tell_neighbours_apart():
    """Where the first frequencies of torch's are the same over all of a range of 0..1."""
    encoder, plain = random_encoder(bounded_positions=True), random_encoder()
    x = torch.tensor([[0.0, 70 / 143, 0], [0.0, 71 / 143, 0]], dtype=torch.float64)
    with torch.no_grad():
        bounded, usual = (each.pre_encoder.nodes(x).diff(dim=0).norm() for each in (encoder, plain))
    assert bounded > 5 * usual


def test_each_kind_of_edge_has_a_mean():
    """By hand: the readout of tables and of layers, each a mean, added; a third kind for biases."""
    encoder = random_encoder(readout_per_kind=True)
    network = encoder.gnn_w_readout
    for bias, kinds in ((False, {0, 14}), (True, {0, 1, 14})):
        nerf = vivid(HashArchitecture(hidden_dim=16, levels=2, log2_table_size=6, bias=bias))
        graph = parameter_graph(nerf)
        with torch.no_grad():
            nodes, edges = encoder.pre_encoder.nodes(graph.x), encoder.pre_encoder.edges(graph.edge_attr)
            features = network.readout.mlp(network.gnn(nodes, graph.edge_index, edges))
        types = graph.edge_attr[:, 2]
        assert set(types.tolist()) == kinds
        expected = sum(features[types == kind].mean(dim=0) for kind in kinds)
        torch.testing.assert_close(encoder.encode([nerf])[0], expected, rtol=1e-9, atol=1e-11)


def test_graphs_of_other_options_are_refused():
    nerf = vivid(MlpArchitecture(hidden_dim=16, frequencies=3))
    encoder = random_encoder(canonical=True, standardised=True)
    right = parameter_graph(nerf, **encoder.config.graph_options)
    torch.testing.assert_close(encoder(right).detach(), encoder.encode([nerf]), rtol=1e-9, atol=1e-11)
    with pytest.raises(
        ValueError, match="made with no options, the encoder reads graphs with canonical, standardised;"
    ):
        encoder(parameter_graph(nerf))
    with pytest.raises(ValueError, match="made with canonical, the encoder reads"):
        encoder(Batch.from_data_list([right, parameter_graph(nerf, canonical=True)]))
    with pytest.raises(
        ValueError, match="made with canonical, standardised, the encoder reads graphs with none; make it"
    ):
        random_encoder()(right)
    own = Data(x=right.x, edge_index=right.edge_index, edge_attr=right.edge_attr, options=right.options)
    torch.testing.assert_close(encoder(own), encoder(right))


def test_encoders_without_options_are_saved_as_before(tmp_path):
    """Fingerprints of encoders are made of this form."""
    released = ["model_type", "hidden_dim", "embedding_dim", "num_layers", "num_node_types", "num_edge_types"]
    assert list(GmnConfig().to_dict()) == [*released, "layer_norm_eps", "layout"]
    for options in CHOICES:
        encoder = random_encoder(**options)
        encoder.save_pretrained(tmp_path)
        loaded = GmnEncoder.from_pretrained(tmp_path)
        assert loaded.config == encoder.config
        assert set(loaded.config.to_dict()) - set(GmnConfig().to_dict()) == set(options)
        assert set(loaded.state_dict()) == set(random_encoder().state_dict())


@pytest.mark.parametrize(("option", "value"), list(itertools.product(GmnConfig.OPTIONS, [1, None, "yes"])))
def test_bad_options(option, value):
    with pytest.raises(ValueError, match=f"GmnConfig.{option} must be true or false, got {value!r}"):
        GmnConfig(**{option: value})

"""The encoder against the golden data, on both paths, and the two paths against each other."""

import copy
import dataclasses
import itertools
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch_geometric.data import Batch, Data

from gmn_encoder import (
    PAPER_ARCHITECTURES,
    GmnConfig,
    GmnEncoder,
    HashArchitecture,
    MlpArchitecture,
    Nerf,
    NerfBatch,
    TriplaneArchitecture,
    load_nerf,
    parameter_graph,
)
from gmn_encoder.encoders.gmn import dense
from gmn_encoder.encoders.gmn.encoder import Reading
from tests.conftest import GOLDEN, GOLDEN_NERF

EMBEDDINGS = load_file(GOLDEN / "embeddings.safetensors")
SMALL_ARCHITECTURES = [
    MlpArchitecture(hidden_dim=16, frequencies=3, hidden_layers=2),
    MlpArchitecture(hidden_dim=16, frequencies=3, bias=True),
    TriplaneArchitecture(hidden_dim=16, frequencies=2, resolution=4, channels=3),
    TriplaneArchitecture(hidden_dim=16, frequencies=2, resolution=3, channels=5, bias=True),
    HashArchitecture(hidden_dim=16, levels=3, log2_table_size=6),
    HashArchitecture(hidden_dim=16, levels=8, log2_table_size=5, features_per_entry=2, bias=True),
]


def relative_error(value, expected):
    return ((value.double() - expected.double()).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", GOLDEN_NERF)
def test_golden_embeddings(name, golden_encoder, golden_encoder64):
    nerf = load_nerf(GOLDEN_NERF[name])
    graph, expected = parameter_graph(nerf), EMBEDDINGS[f"{name}.f64"]
    with torch.no_grad():
        assert relative_error(golden_encoder64(graph)[0], expected) < 1e-12
        assert relative_error(golden_encoder(graph)[0], expected) < 1e-4
    exact = golden_encoder64.encode([nerf])
    assert exact.dtype == torch.float64
    assert relative_error(exact[0], expected) < 1e-12
    single = golden_encoder.encode([nerf])
    assert single.dtype == torch.float32
    assert relative_error(single[0], expected) < 2e-6
    assert relative_error(single[0], EMBEDDINGS[f"{name}.f32"]) < 1e-4


@pytest.mark.parametrize("name", GOLDEN_NERF)
def test_golden_stages(name, golden_encoder64):
    """Every intermediate of the edge-list path: first and last rows."""
    stages = load_file(GOLDEN / "stages_f64.safetensors")
    graph, model = parameter_graph(load_nerf(GOLDEN_NERF[name])), golden_encoder64

    def check(stage, value):
        for end, rows in (("head", value[:4]), ("tail", value[-4:])):
            torch.testing.assert_close(rows, stages[f"{name}.{stage}.{end}"], rtol=1e-9, atol=1e-11)

    with torch.no_grad():
        x, e = model.pre_encoder.nodes(graph.x), model.pre_encoder.edges(graph.edge_attr)
        check("pre_encoder.x", x), check("pre_encoder.e", e)
        gnn = model.gnn_w_readout.gnn
        x, e = gnn.node_embed(x), gnn.edge_embed(e)
        check("embed.x", x), check("embed.e", e)
        for number, block in enumerate(gnn.convs):
            x, e = block(x, graph.edge_index, e)
            check(f"block{number}.x", x), check(f"block{number}.e", e)
        e = gnn.final_layer(e)
        check("final.e", e)
        ends = torch.cat([e[:4], e[-4:]])
        readout = model.gnn_w_readout.readout.mlp(ends)
        torch.testing.assert_close(readout[:4], stages[f"{name}.readout_edge.head"], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(readout[4:], stages[f"{name}.readout_edge.tail"], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("layout", ["released", "geometric"])
@pytest.mark.parametrize("architecture", SMALL_ARCHITECTURES, ids=lambda a: a.name)
def test_paths_agree_in_values_and_gradients(architecture, layout, small_encoder):
    encoder = copy.deepcopy(small_encoder).double()
    encoder.config = GmnConfig(**{**small_encoder.config.__dict__, "layout": layout})
    nerfs = [Nerf.random(architecture, seed=seed, dtype=torch.float64) for seed in range(3)]
    for nerf in nerfs:
        for tensor in nerf.tensors.values():
            tensor.requires_grad_()
    inputs = [*encoder.parameters(), *[tensor for nerf in nerfs for tensor in nerf.tensors.values()]]
    direction = torch.randn(3, encoder.config.embedding_dim, dtype=torch.float64)

    by_edges = encoder(Batch.from_data_list([parameter_graph(nerf, layout=layout) for nerf in nerfs]))
    by_blocks = encoder.embed(NerfBatch.stack(nerfs))
    torch.testing.assert_close(by_blocks, by_edges, rtol=1e-10, atol=1e-12)
    edge_gradients = torch.autograd.grad(
        (by_edges * direction).sum(), inputs, allow_unused=True, materialize_grads=True
    )
    block_gradients = torch.autograd.grad(
        (by_blocks * direction).sum(), inputs, allow_unused=True, materialize_grads=True
    )
    scale = max(gradient.abs().max().item() for gradient in edge_gradients)
    for got, expected in zip(block_gradients, edge_gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10 * scale)


def test_layouts_differ(small_encoder):
    geometric = copy.deepcopy(small_encoder)
    geometric.config = GmnConfig(**{**small_encoder.config.__dict__, "layout": "geometric"})
    nerf = Nerf.random(SMALL_ARCHITECTURES[2])
    assert relative_error(geometric.encode([nerf]), small_encoder.encode([nerf])) > 1e-4


@pytest.mark.parametrize("tile", [1, 50, 10**6])
def test_tiling_does_not_matter(tile, small_encoder, monkeypatch):
    nerfs = [Nerf.random(architecture, seed=i) for i, architecture in enumerate(SMALL_ARCHITECTURES)] * 3
    expected = small_encoder.encode(nerfs, batch_size=3)
    monkeypatch.setattr(dense, "_CPU_TILE", tile * small_encoder.config.hidden_dim)
    torch.testing.assert_close(small_encoder.encode(nerfs, batch_size=3), expected, rtol=1e-5, atol=1e-6)


def test_batches_of_mixed_architectures_keep_their_order(small_encoder):
    nerfs = [
        Nerf.random(architecture, seed=i)
        for i, architecture in enumerate([*SMALL_ARCHITECTURES, *SMALL_ARCHITECTURES[::-1]])
    ]
    alone = torch.cat([small_encoder.encode([nerf]) for nerf in nerfs])
    for batch_size in (1, 2, 100):
        torch.testing.assert_close(small_encoder.encode(nerfs, batch_size=batch_size), alone, rtol=1e-5, atol=1e-6)
    order = torch.randperm(len(nerfs)).tolist()
    torch.testing.assert_close(small_encoder.encode([nerfs[i] for i in order]), alone[order], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        batch = small_encoder(Batch.from_data_list([parameter_graph(nerf) for nerf in nerfs]))
    torch.testing.assert_close(batch, alone, rtol=1e-4, atol=1e-5)


def permute_hidden(nerf, layer, permutation):
    """The same function with the neurons of a hidden layer in another order."""
    matrices = [m.clone() for m in _layers(nerf)]
    matrices[layer] = matrices[layer][permutation]
    matrices[layer + 1] = matrices[layer + 1][:, permutation]
    return Nerf(nerf.architecture, {**nerf.tensors, "mlp_base.params": torch.cat([m.flatten() for m in matrices])})


def _layers(nerf):
    return nerf.architecture.layers(nerf.tensors)[0]


@pytest.mark.parametrize("name", ["MLP", "HASH-3N"])
def test_hidden_neurons_have_no_order(name, golden_encoder):
    nerf = load_nerf(GOLDEN_NERF["MLP"]) if name == "MLP" else Nerf.random(name)
    permuted = permute_hidden(nerf, 1, torch.randperm(64, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(permuted.tensors["mlp_base.params"], nerf.tensors["mlp_base.params"])
    embedded = golden_encoder.encode([nerf, permuted])
    assert relative_error(embedded[1], embedded[0]) < 1e-5
    shuffled_inputs = Nerf(nerf.architecture, {k: v.flip(0) for k, v in nerf.tensors.items()})
    assert relative_error(golden_encoder.encode([shuffled_inputs])[0], embedded[0]) > 1e-5  # the test can fail


@pytest.mark.parametrize("name", GOLDEN_NERF)
def test_bfloat16_products(name, golden_encoder):
    nerf = load_nerf(GOLDEN_NERF[name])
    embedding = golden_encoder.encode([nerf], dtype=torch.bfloat16)
    assert embedding.dtype == torch.float32
    assert torch.cosine_similarity(embedding[0].double(), EMBEDDINGS[f"{name}.f64"], dim=0) > 0.9999


def test_training_changes_the_cached_constants(small_encoder):
    encoder, nerf = copy.deepcopy(small_encoder), Nerf.random(SMALL_ARCHITECTURES[4])
    before = encoder.encode([nerf])
    with torch.no_grad():
        encoder.pre_encoder.node_type_encoder.weight.add_(0.5)
    after = encoder.encode([nerf])
    assert relative_error(after, before) > 1e-3
    torch.testing.assert_close(after, encoder(parameter_graph(nerf)).detach(), rtol=1e-4, atol=1e-5)
    encoder.load_state_dict(small_encoder.state_dict())
    torch.testing.assert_close(encoder.encode([nerf]), before)


def test_unused_parameters_are_those_of_absent_types(small_encoder):
    """Every parameter learns on both paths, but for table rows of types that no NeRF has."""
    encoder = copy.deepcopy(small_encoder)
    encoder.embed(NerfBatch.stack([Nerf.random(SMALL_ARCHITECTURES[0])])).sum().backward()
    assert all(parameter.grad is not None and bool((parameter.grad != 0).any()) for parameter in encoder.parameters())


def test_any_graph_embeds(small_encoder):
    """The edge-list path takes graphs that are no NeRF: a cycle, and one without edges."""
    x = torch.tensor([[0, 0, 0], [1, -1, 0], [2, 0, 1]])
    attributes = torch.tensor([[0.3, 0, 0, -1, -1, -1], [0.1, 1, 0, -1, -1, -1], [0.2, 2, 4, 0, 0.5, 1]])
    cycle = Data(x=x, edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]), edge_attr=attributes)
    empty = Data(x=x, edge_index=torch.empty(2, 0, dtype=torch.int64), edge_attr=torch.empty(0, 6))
    with torch.no_grad():
        embeddings = small_encoder(Batch.from_data_list([cycle, empty]))
    assert (embeddings[0] > 0).any()
    assert (embeddings[1] == 0).all()


@pytest.mark.parametrize("name", PAPER_ARCHITECTURES)
def test_paths_agree_on_the_papers_architectures(name, golden_encoder):
    nerf = Nerf.random(name, seed=5)
    with torch.no_grad():
        by_edges = golden_encoder(parameter_graph(nerf))
    assert relative_error(golden_encoder.encode([nerf]), by_edges) < 2e-5


def test_save_and_load(tmp_path, small_encoder):
    small_encoder.save_pretrained(tmp_path / "encoder")
    assert sorted(path.name for path in (tmp_path / "encoder").iterdir()) == ["config.json", "model.safetensors"]
    loaded = GmnEncoder.from_pretrained(tmp_path / "encoder")
    assert not loaded.training
    assert loaded.config == small_encoder.config
    assert loaded.fingerprint() == small_encoder.fingerprint()
    nerf = Nerf.random(SMALL_ARCHITECTURES[0])
    torch.testing.assert_close(loaded.encode([nerf]), small_encoder.encode([nerf]))


def test_checkpoints_of_other_sizes_are_read_off(tmp_path, small_encoder):
    torch.save({"encoder": small_encoder.state_dict(), "epoch": 3}, tmp_path / "best.pt")
    assert GmnEncoder.from_pretrained(tmp_path / "best.pt").config == small_encoder.config


def test_encoder_with_a_head(tmp_path, small_encoder):
    """Standardised units, a linear map and one length, on both paths; configuration and checkpoint tell that it is there."""
    torch.manual_seed(3)
    config = dataclasses.replace(small_encoder.config, embedding_dim=7, readout_dim=small_encoder.config.embedding_dim)
    encoder = GmnEncoder(config)
    encoder.load_state_dict({**encoder.state_dict(), **small_encoder.state_dict()})
    nerfs = [Nerf.random(architecture, seed=1) for architecture in SMALL_ARCHITECTURES]
    with torch.no_grad():
        readouts = small_encoder.encode(nerfs)
        encoder.train()
        encoder.combine(Reading(readouts, None))  # one batch of training moves the running mean and spread
        encoder.eval()
        mean, variance = encoder.head.norm.running_mean, encoder.head.norm.running_var
        torch.testing.assert_close(mean, 0.1 * readouts.mean(dim=0))
        expected = ((readouts - mean) / (variance + 1e-10).sqrt()).clamp(-4, 4) @ encoder.head.map.weight.T
        expected = expected / expected.norm(dim=1, keepdim=True) * 7**0.5
        torch.testing.assert_close(encoder.encode(nerfs), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(encoder(parameter_graph(nerfs[0]))[0], expected[0], rtol=1e-4, atol=1e-4)
    encoder.save_pretrained(tmp_path)
    assert GmnEncoder.from_pretrained(tmp_path).fingerprint() == encoder.fingerprint()
    torch.save({"encoder": encoder.state_dict()}, tmp_path / "best.pt")
    assert GmnEncoder.from_pretrained(tmp_path / "best.pt").config == config
    assert "readout_dim" not in small_encoder.config.to_dict()
    with pytest.raises(ValueError, match="readout_dim must be None or an integer of at least embedding_dim = 9"):
        GmnConfig(embedding_dim=9, readout_dim=8)


def test_copies_and_pickles(small_encoder):
    nerf = Nerf.random(SMALL_ARCHITECTURES[0])
    expected = small_encoder.encode([nerf])
    for other in (copy.deepcopy(small_encoder), pickle.loads(pickle.dumps(small_encoder))):
        torch.testing.assert_close(other.encode([nerf]), expected)


def test_released_parameter_count():
    encoder = GmnEncoder()
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 814464
    assert len(encoder.state_dict()) == 74


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("pre_encoder.x_proj.bias"), r"'pre_encoder\.x_proj\.bias' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra' is unknown"),
        (lambda s: s.update({"pre_encoder.x_proj.bias": torch.zeros(3)}), r"has shape \[3\] instead of \[16\]"),
        (lambda s: s.update({"pre_encoder.x_proj.bias": torch.full((16,), float("inf"))}), "NaN or infinite"),
        (lambda s: s.clear(), "holds no GMN encoder; found nothing"),
    ],
)
def test_broken_checkpoints(tmp_path, small_encoder, change, message):
    state = dict(small_encoder.state_dict())
    change(state)
    torch.save({"encoder": state}, tmp_path / "best.pt")
    with pytest.raises(ValueError, match=rf"best\.pt: .*{message}"):
        GmnEncoder.from_pretrained(tmp_path / "best.pt")


def test_other_inputs_are_refused(tmp_path, small_encoder):
    with pytest.raises(ValueError, match="holds no GMN encoder"):
        GmnEncoder.from_pretrained(GOLDEN_NERF["MLP"] / "nerf_weights.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        GmnEncoder.from_pretrained(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match=r"holds no encoder; expected config\.json"):
        GmnEncoder.from_pretrained(tmp_path)
    small_encoder.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    for text, message in (
        ("{", "config.json"),
        ("[]", "holds a list"),
        (json.dumps({"model_type": "bert"}), "'bert' model"),
        (json.dumps({"width": 3}), "no field 'width'"),
        (json.dumps({**small_encoder.config.to_dict(), "hidden_dim": 32}), "does not fit a GmnEncoder"),
    ):
        config.write_text(text)
        with pytest.raises(ValueError, match=message):
            GmnEncoder.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match="item 0 is a str"):
        small_encoder.encode(["nerf.pth"])
    with pytest.raises(ValueError, match="batch_size"):
        small_encoder.encode([], batch_size=0)
    assert small_encoder.encode([]).shape == (0, 24)


BAD_SIZES = itertools.product(["hidden_dim", "embedding_dim", "num_layers"], [0, -1, 1.5, "x"])
OTHER_BAD_FIELDS = [("layout", "paper"), ("num_node_types", 3), ("layer_norm_eps", 0)]


@pytest.mark.parametrize(("field", "value"), [*BAD_SIZES, *OTHER_BAD_FIELDS])
def test_bad_configurations(field, value):
    with pytest.raises(ValueError, match=field):
        GmnConfig(**{field: value})

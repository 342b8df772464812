import hashlib

import numpy as np
import pytest
import torch

from gmn_encoder import (
    PAPER_ARCHITECTURES,
    HashArchitecture,
    MlpArchitecture,
    Nerf,
    TriplaneArchitecture,
    build_parameter_graph,
    load_nerf,
    parameter_graph,
)
from tests.conftest import GOLDEN, GOLDEN_NERF

# docs/released_format.md#graph-sizes: nodes and edges.
COUNTS = {
    "MLP": (352, 18432),
    "MLP-2L": (288, 14336),
    "MLP-32H": (256, 7168),
    "TRI": (3584, 77824),
    "TRI-2L": (3520, 73728),
    "TRI-32H": (3488, 61440),
    "TRI-16W": (1280, 40960),
    "TRI-8C": (3576, 52736),
    "HASH": (16624, 43008),
    "HASH-2L": (16560, 38912),
    "HASH-32H": (16528, 35840),
    "HASH-3N": (12528, 34816),
    "HASH-11T": (8432, 26624),
}


@pytest.mark.parametrize("name", GOLDEN_NERF)
def test_golden_graphs_bit_for_bit(name, golden_manifest):
    graph, golden = parameter_graph(load_nerf(GOLDEN_NERF[name])), np.load(GOLDEN / "graphs" / f"{name}.npz")
    assert graph.x.dtype == graph.edge_index.dtype == torch.int64
    assert np.array_equal(graph.x.numpy(), golden["x"])
    assert np.array_equal(graph.edge_index.numpy(), golden["edge_index"])
    assert graph.edge_attr.dtype == torch.float32
    assert np.array_equal(graph.edge_attr.numpy().view(np.int32), golden["edge_attr"].view(np.int32))
    digest = hashlib.sha256(graph.x.numpy().tobytes()).hexdigest()
    assert digest == golden_manifest["nerfs"][name]["x_sha256_int64"]


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    graph, edges = build_parameter_graph(PAPER_ARCHITECTURES[name]), parameter_graph(Nerf.random(name))
    assert (graph.num_nodes, graph.num_edges) == COUNTS[name]
    assert (edges.num_nodes, edges.num_edges) == COUNTS[name]
    assert edges.edge_attr.shape == (COUNTS[name][1], 6)


def test_blocks_are_complete_and_topological():
    for architecture in (*PAPER_ARCHITECTURES.values(), MlpArchitecture(bias=True)):
        graph = build_parameter_graph(architecture)
        finished: set[int] = set()
        targets: set[int] = set()
        for block in graph.blocks:
            targets.add(block.targets.start)
            assert not {group.start for group in block.sources} & targets - finished
            finished.add(block.targets.start)
        assert len(targets) == len(graph.blocks)  # nobody's incoming edges lie in two blocks


def test_eight_channels_leave_out_the_padding_columns():
    """#tri-8c: of the stored 64 x 304 matrix the first 296 columns are edges."""
    nerf = Nerf.random("TRI-8C")
    first = nerf.tensors["mlp_base.params"][: 64 * 304].view(64, 304)
    graph = parameter_graph(nerf)
    planes = 3 * 32 * 32 * 8
    torch.testing.assert_close(graph.edge_attr[planes : planes + 64 * 296, 0], first[:, :296].flatten(), rtol=0, atol=0)


def test_geometric_triplane_positions_are_where_the_field_reads():
    """The geometric position of a plane's cell is the point at which a query reads that cell alone."""
    architecture = TriplaneArchitecture(resolution=5, channels=2)
    nerf = Nerf.random(architecture)
    graph = parameter_graph(nerf, layout="geometric")
    line = torch.linspace(-1, 1, 5)
    plane_axes = ((0, 1), (0, 2), (1, 2))
    cells = nerf.tensors["triplane"].numel()
    for edge in range(0, cells, 7):
        cell, _ = divmod(edge, 2)
        plane, rest = divmod(cell, 25)
        row, column = divmod(rest, 5)
        expected = [0.0, 0.0, 0.0]
        expected[plane_axes[plane][0]], expected[plane_axes[plane][1]] = float(line[column]), float(line[row])
        assert graph.edge_attr[edge, 3:].tolist() == pytest.approx(expected)


def test_geometric_hash_positions_are_entries():
    released, geometric = (
        parameter_graph(Nerf.random("HASH-3N"), layout=layout) for layout in ("released", "geometric")
    )
    assert released.edge_attr[:6, 3:].tolist() == [[0, i, -1] for i in range(6)]
    assert geometric.edge_attr[:6, 3:].tolist() == [[0, i // 2, -1] for i in range(6)]
    assert torch.equal(released.edge_attr[:, :3], geometric.edge_attr[:, :3])
    assert torch.equal(released.edge_index, geometric.edge_index)


def test_tables_of_unequal_levels():
    graph = build_parameter_graph(HashArchitecture(log2_table_size=13))
    assert [block.num_sources for block in graph.blocks[:4]] == [4096, 8192, 8192, 8192]


def test_biases_become_nodes_and_edges():
    """A 16-wide one-layer network: 144 inputs, 16 hidden, 16 outputs, and one bias node a layer."""
    architecture = MlpArchitecture(hidden_layers=1, hidden_dim=16, bias=True)
    nerf = Nerf.random(architecture)
    graph = parameter_graph(nerf)
    assert graph.num_nodes == 144 + 16 + 1 + 16 + 1
    assert graph.num_edges == 144 * 16 + 16 + 16 * 16 + 16
    first_biases = graph.edge_attr[144 * 16 : 144 * 16 + 16]
    assert torch.equal(first_biases[:, 0], nerf.tensors["mlp_base.biases"][:16])
    assert first_biases[0, 1:].tolist() == [0, 1, -1, -1, -1]
    assert graph.x[160].tolist() == [1, -1, 1]
    assert graph.edge_index[:, 144 * 16].tolist() == [160, 144]


def test_gradients_reach_the_weights():
    nerf = Nerf.random("MLP-32H")
    weights = nerf.tensors["mlp_base.params"].requires_grad_()
    parameter_graph(nerf).edge_attr[:, 0].square().sum().backward()
    torch.testing.assert_close(weights.grad, 2 * weights.detach())


def test_graphs_do_not_share_memory():
    nerf = Nerf.random("MLP-32H")
    first = parameter_graph(nerf)
    first.x.zero_(), first.edge_index.zero_()
    assert parameter_graph(nerf).edge_index.max() > 0


def test_unknown_layout():
    with pytest.raises(ValueError, match="unknown graph layout 'paper'; expected one of released, geometric"):
        parameter_graph(Nerf.random("MLP-32H"), layout="paper")

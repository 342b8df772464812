"""What a new family needs, piece by piece; docs/new-family.md, whose blocks are tests too, has a whole one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gmn_encoder import GmnConfig, GmnEncoder, Nerf, NerfBatch, find_nerfs, load_nerf, parameter_graph, save_nerf
from gmn_encoder.fitting.field import TrainedBatch
from gmn_encoder.nerfs.architectures import (
    NAMED_ARCHITECTURES,
    NerfArchitecture,
    detect_architecture,
    paper_families,
    parse_architecture,
    register_family,
)
from gmn_encoder.nerfs.families import HashArchitecture, MlpArchitecture
from gmn_encoder.nerfs.fields import frequency_features, unit_coordinates
from gmn_encoder.nerfs.network import MLP_KEY, NetworkArchitecture


@dataclass(frozen=True, kw_only=True)
class LineArchitecture(NetworkArchitecture):
    """One feature vector per point of each axis, three tables of a line, added; and no graph."""

    family: ClassVar[str] = "lines"
    activation: ClassVar = "relu"
    encoding_keys: ClassVar[tuple[str, ...]] = ("lines", "gain")

    hidden_layers: int = 1
    hidden_dim: int = 16
    points: int = 4
    channels: int = 5

    @property
    def encoding_dim(self):
        return self.channels

    @property
    def tensor_shapes(self):
        return {**super().tensor_shapes, "lines": (3, self.points, self.channels), "gain": (3,)}

    @classmethod
    def encoding_sizes(cls, shapes):
        _, points, channels = shapes["lines"]
        return [{"points": points, "channels": channels}]

    def point_features(self, tensors, xyz):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class GlowArchitecture(NerfArchitecture):
    """A ball whose colour is that of where one looks from: no network, no graph, a box of its own."""

    family: ClassVar[str] = "glow"
    encoding_keys: ClassVar[tuple[str, ...]] = ("glow",)

    @property
    def box(self):
        return (-1.0, -1.0, 0.0), (1.0, 1.0, 2.0)

    @property
    def tensor_shapes(self):
        return {"glow": (1,)}

    def query(self, tensors, xyz, directions=None):
        u, inside = unit_coordinates(xyz, self.box)
        density = tensors["glow"][:, None] * (1 - 2 * (u - 0.5).norm(dim=-1, keepdim=True)).clamp(min=0)
        return torch.zeros_like(xyz) if directions is None else directions.abs(), density * inside


@pytest.fixture
def lines(own_families):
    register_family(LineArchitecture, "LINES")


@pytest.fixture
def glow(own_families):
    register_family(GlowArchitecture, "GLOW")
    return Nerf(GlowArchitecture(), {"glow": torch.ones(1)})


@pytest.mark.usefixtures("lines")
def test_a_registered_family_has_a_name_and_is_detected_by_its_keys():
    assert parse_architecture("LINES") == LineArchitecture()
    other = LineArchitecture(points=7)
    assert detect_architecture(other.tensor_shapes) == other
    with pytest.raises(ValueError, match=r"no lines NeRF has .*LINES: mlp_base.params \[512\]"):
        detect_architecture({**other.tensor_shapes, MLP_KEY: (5,)})
    assert LineArchitecture.display_name == "lines"
    assert paper_families() == ("mlp", "triplane", "hash")


@pytest.mark.usefixtures("lines")
def test_its_files_are_written_and_read(tmp_path):
    nerf = Nerf.random(LineArchitecture(channels=3), seed=1)
    for path in (tmp_path / "released", tmp_path / "ours.safetensors"):
        again = load_nerf(save_nerf(nerf, path))
        assert again.architecture == nerf.architecture
        assert all(torch.equal(again.tensors[key], nerf.tensors[key]) for key in nerf.tensors)


def test_its_files_are_unknown_before(tmp_path):
    file = save_nerf(Nerf.random(LineArchitecture()), tmp_path / "ours.safetensors")
    with pytest.raises(ValueError, match="family 'lines'; expected one of mlp, triplane, hash"):
        load_nerf(file)


@pytest.mark.usefixtures("lines")
def test_what_belongs_to_another_family_is_refused():
    class Again(MlpArchitecture):
        family = "mlp"

    class Table(HashArchitecture):
        family = "table"

    class Weights(MlpArchitecture):
        family = "weights"
        encoding_keys = (MLP_KEY,)

    class Named(MlpArchitecture):
        family = "named"

    known = dict(NAMED_ARCHITECTURES)
    register_family(LineArchitecture, "LINES")  # once more is no other
    with pytest.raises(ValueError, match="'mlp' is MlpArchitecture already"):
        register_family(Again, "AGAIN")
    with pytest.raises(ValueError, match=r"'encoding\.params' belongs to another family"):
        register_family(Table, "TABLE")
    with pytest.raises(ValueError, match=r"'mlp_base\.params' belongs to another family"):
        register_family(Weights, "WEIGHTS")
    with pytest.raises(ValueError, match="'HASH-3N' is the name of another architecture"):
        register_family(Named, "HASH-3N")
    assert known == NAMED_ARCHITECTURES


def test_a_family_without_a_graph_says_so():
    nerf = Nerf.random(LineArchitecture())
    assert not nerf.architecture.has_graph
    assert MlpArchitecture().has_graph
    with pytest.raises(ValueError, match="lines NeRFs have no parameter graph"):
        parameter_graph(nerf)
    with pytest.raises(ValueError, match="lines NeRFs have no parameter graph"):
        GmnEncoder(GmnConfig(hidden_dim=16, embedding_dim=32)).encode([nerf])


def test_a_field_that_takes_view_directions(glow):
    xyz = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.5, 1.0]], [[0.0, 0.0, -0.1], [0.9, 0.0, 1.5]]])
    rgb, density = glow.query(xyz, torch.tensor([0.0, 0.6, -0.8]))  # one direction for all points
    assert density[..., 0].tolist() == [[1.0, 0.5], [0.0, 0.0]]
    torch.testing.assert_close(rgb, torch.tensor([0.0, 0.6, 0.8]).expand(2, 2, 3))
    assert not glow.query(xyz)[0].any()
    batch = NerfBatch.stack([glow, glow])
    torch.testing.assert_close(batch.query(xyz, xyz)[0], xyz.abs())
    torch.testing.assert_close(TrainedBatch(batch.architecture, batch.tensors).query(xyz, xyz)[0], xyz.abs())
    with pytest.raises(ValueError, match=r"directions have shape \(3, 3\); expected one for each point, \(2, 2, 3\)"):
        glow.query(xyz, torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"directions has shape \(2, 2\)"):
        glow.query(xyz, torch.zeros(2, 2))


def test_a_family_without_the_network_is_written_found_and_read(glow, tmp_path):
    save_nerf(glow, tmp_path / "ball.safetensors")
    save_nerf(glow, tmp_path / "released")
    assert [load_nerf(path).architecture for path in find_nerfs(tmp_path)] == 2 * [GlowArchitecture()]


@dataclass(frozen=True, kw_only=True)
class CubeArchitecture(NetworkArchitecture):
    """Frequency features, then the cubes of the coordinates."""

    family: ClassVar[str] = "cubes"
    activation: ClassVar = "relu"

    frequencies: int = 5

    @property
    def encoding_dim(self):
        return 6 * self.frequencies + 3

    @property
    def octaves(self):
        return self.frequencies

    @property
    def box(self):
        return (-0.5, -0.6, -0.7), (0.5, 0.6, 0.7)

    def point_features(self, tensors, xyz):
        u, _ = unit_coordinates(xyz, self.box)
        return torch.cat([frequency_features(u, self.frequencies), u**3], dim=-1)


def test_training_reads_the_field_of_a_family_that_has_no_faster_way():
    architecture = CubeArchitecture(hidden_dim=16)
    tensors = {key: value[None] for key, value in architecture.initial_tensors(seed=0, frequencies=2).items()}
    xyz = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) * 1.38 - 0.69
    rgb, density = NerfBatch(architecture, tensors).query(xyz)
    trained_rgb, trained_density = TrainedBatch(architecture, tensors, frequencies=2).query(xyz)
    inside = (xyz.abs() < torch.tensor([0.5, 0.6, 0.7])).all(dim=-1)
    assert torch.equal(density[..., 0] > 0, inside)
    torch.testing.assert_close(trained_rgb[inside], rgb[inside], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained_density, density, rtol=1e-4, atol=1e-5)

"""What a new family needs, piece by piece; docs/new-family.md, whose blocks are tests too, has a whole one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gmn_encoder import HashArchitecture, MlpArchitecture, Nerf, NerfBatch, load_nerf, parameter_graph, save_nerf
from gmn_encoder.fitting.field import TrainedBatch, initial_tensors
from gmn_encoder.nerfs.architectures import (
    MLP_KEY,
    NerfArchitecture,
    detect_architecture,
    parse_architecture,
    register_family,
)
from gmn_encoder.nerfs.fields import frequency_features, point_features, unit_coordinates


@dataclass(frozen=True, kw_only=True)
class LineArchitecture(NerfArchitecture):
    """One feature vector per point of each axis: three tables of a line, added."""

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


@pytest.fixture
def lines(own_families):
    register_family(LineArchitecture, "LINES")


@pytest.mark.usefixtures("lines")
def test_a_registered_family_has_a_name_and_is_detected_by_its_keys():
    assert parse_architecture("LINES") == LineArchitecture()
    other = LineArchitecture(points=7)
    assert detect_architecture(other.tensor_shapes) == other
    with pytest.raises(ValueError, match=r"no lines NeRF has .*LINES: mlp_base.params \[512\]"):
        detect_architecture({**other.tensor_shapes, MLP_KEY: (5,)})


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

    class Named(MlpArchitecture):
        family = "named"

    register_family(LineArchitecture, "LINES")  # once more is no other
    with pytest.raises(ValueError, match="'mlp' is MlpArchitecture already"):
        register_family(Again, "AGAIN")
    with pytest.raises(ValueError, match=r"'encoding\.params' belongs to another family"):
        register_family(Table, "TABLE")
    with pytest.raises(ValueError, match="'HASH-3N' is the name of another architecture"):
        register_family(Named, "HASH-3N")


@dataclass(frozen=True, kw_only=True)
class CubeArchitecture(NerfArchitecture):
    """Frequency features, then the cubes of the coordinates."""

    family: ClassVar[str] = "cubes"
    activation: ClassVar = "relu"

    frequencies: int = 5

    @property
    def encoding_dim(self):
        return 6 * self.frequencies + 3


def test_a_family_without_a_field_or_a_graph_says_what_to_register():
    nerf = Nerf.random(LineArchitecture())
    with pytest.raises(TypeError, match=r"no field is known for LineArchitecture; add it with fields\.point_features"):
        nerf.query(torch.zeros(1, 3))
    with pytest.raises(TypeError, match=r"no graph is known for LineArchitecture; add it with graph\.add_blocks"):
        parameter_graph(nerf)


def test_training_reads_the_field_of_a_family_that_has_no_faster_way():
    @point_features.register(CubeArchitecture)
    def _(architecture, tensors, xyz):
        u, _ = unit_coordinates(xyz)
        return torch.cat([frequency_features(u, architecture.frequencies), u**3], dim=-1)

    architecture = CubeArchitecture(hidden_dim=16)
    tensors = {key: value[None] for key, value in initial_tensors(architecture, seed=0, frequencies=2).items()}
    xyz = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) * 1.38 - 0.69
    rgb, density = NerfBatch(architecture, tensors).query(xyz)
    trained_rgb, trained_density = TrainedBatch(architecture, tensors, frequencies=2).query(xyz)
    torch.testing.assert_close(trained_rgb, rgb, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained_density, density, rtol=1e-4, atol=1e-5)

"""What a new family needs, piece by piece; docs/new-family.md, whose blocks are tests too, has a whole one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from gmn_encoder import HashArchitecture, MlpArchitecture, Nerf, load_nerf, save_nerf
from gmn_encoder.architectures import (
    MLP_KEY,
    NerfArchitecture,
    detect_architecture,
    parse_architecture,
    register_family,
)


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

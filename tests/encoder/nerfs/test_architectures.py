import pytest

from gmn_encoder import PAPER_ARCHITECTURES, HashArchitecture, MlpArchitecture, TriplaneArchitecture, parse_architecture
from gmn_encoder.nerfs.architectures import NANO_ARCHITECTURES, detect_architecture

# docs/released_format.md#nerf-weights: mlp_base.params, then the spatial tensor.
TENSORS = {
    "MLP": (18432, None),
    "MLP-2L": (14336, None),
    "MLP-32H": (7168, None),
    "TRI": (28672, (3, 32, 32, 16)),
    "TRI-2L": (24576, (3, 32, 32, 16)),
    "TRI-32H": (12288, (3, 32, 32, 16)),
    "TRI-16W": (28672, (3, 16, 16, 16)),
    "TRI-8C": (28672, (3, 32, 32, 8)),
    "HASH": (10240, (32768,)),
    "HASH-2L": (6144, (32768,)),
    "HASH-32H": (3072, (32768,)),
    "HASH-3N": (10240, (24576,)),
    "HASH-11T": (10240, (16384,)),
}


def file_shapes(name):
    params, spatial = TENSORS[name]
    shapes = {"mlp_base.params": (params,)}
    if spatial is not None:
        shapes["triplane" if len(spatial) == 4 else "encoding.params"] = spatial
    return shapes


@pytest.mark.parametrize("name", TENSORS)
def test_paper_architecture_is_detected(name):
    architecture = PAPER_ARCHITECTURES[name]
    assert architecture.tensor_shapes == file_shapes(name)
    assert detect_architecture(file_shapes(name)) == architecture
    assert architecture.name == name
    assert parse_architecture(name) is architecture
    assert parse_architecture(architecture.to_dict()) == architecture


@pytest.mark.parametrize(
    "architecture",
    [
        MlpArchitecture(hidden_layers=5),
        MlpArchitecture(hidden_dim=128, hidden_layers=2),
        TriplaneArchitecture(resolution=20, channels=3),
        TriplaneArchitecture(resolution=64, channels=32, hidden_dim=32, hidden_layers=4),
        HashArchitecture(levels=5, log2_table_size=10),
        TriplaneArchitecture(bias=True),
    ],
)
def test_other_sizes_are_detected(architecture):
    assert detect_architecture(architecture.tensor_shapes) == architecture


@pytest.mark.parametrize("name", NANO_ARCHITECTURES)
def test_nano_architectures_are_found_by_name_and_by_their_tensors(name):
    architecture = parse_architecture(name)
    assert architecture.name == name
    assert detect_architecture(architecture.tensor_shapes) == architecture
    # No other size that is searched for has these tensors, so that nothing else is taken for one of them.
    assert not architecture.candidates(architecture.tensor_shapes)


def test_ambiguous_sizes_list_the_candidates():
    # 10240 weights are one layer of 64 or six of 32.
    with pytest.raises(
        ValueError, match=r"several mlp architectures: .*hidden_dim=32.*; mlp\(hidden_layers=1\); pass architecture="
    ):
        detect_architecture({"mlp_base.params": (10240,)})


def test_impossible_sizes_name_what_was_found_and_expected():
    with pytest.raises(ValueError, match=r"no mlp NeRF has mlp_base.params \[18433\].*MLP: mlp_base.params \[18432\]"):
        detect_architecture({"mlp_base.params": (18433,)})
    with pytest.raises(ValueError, match=r"no triplane NeRF"):
        detect_architecture({"mlp_base.params": (28672,), "triplane": (3, 32, 16, 16)})


def test_hash_levels_follow_tiny_cuda_nn():
    # docs/released_format.md#hash-grid: the worked examples.
    four, three = HashArchitecture(), HashArchitecture(levels=3)
    assert four.level_scales == (15, 31, 63, 127)
    assert four.level_resolutions == (16, 32, 64, 128)
    assert three.level_scales == pytest.approx((15, 44.2548, 127), abs=1e-3)
    assert three.level_resolutions == (16, 46, 128)
    assert HashArchitecture(log2_table_size=13).level_entries == (4096, 8192, 8192, 8192)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("TRI-9C", "unknown architecture 'TRI-9C'"),
        ({"family": "voxel"}, "family 'voxel'"),
        ({"family": ["mlp"]}, "family"),
        ({"family": "mlp", "channels": 3}, "no size 'channels'"),
        ({"family": "mlp", "hidden_dim": 0}, "hidden_dim .* positive integer, got 0"),
        ({"family": "mlp", "hidden_dim": True}, "hidden_dim"),
        ({"family": "triplane", "resolution": 1}, "resolution"),
        ({"family": "hash", "log2_table_size": 40}, "log2_table_size"),
        ({"family": "hash", "base_resolution": 256}, "max_resolution"),
    ],
)
def test_bad_architectures_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        parse_architecture(value)

import os
import pickle
import resource

import pytest
import torch

from gmn_encoder import PAPER_ARCHITECTURES, MlpArchitecture, Nerf, find_nerfs, load_nerf, save_nerf
from gmn_encoder.nerfs.files import released_ids
from tests.conftest import GOLDEN, GOLDEN_NERF


def save(tmp_path, content, name="nerf_weights.pth"):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


def mlp(**changes):
    return {"mlp_base.params": torch.randn(18432), **changes}


@pytest.mark.parametrize("name", GOLDEN_NERF)
def test_released_files_load(name):
    from_directory, from_file = load_nerf(GOLDEN_NERF[name]), load_nerf(GOLDEN_NERF[name] / "nerf_weights.pth")
    assert from_directory.architecture == from_file.architecture == PAPER_ARCHITECTURES[name]
    assert released_ids(from_directory.source) == ("02691156", "eee65f53e9421ce50211670eae679f02")
    assert "class_id" not in from_directory.tensors  # TRI's file carries one
    assert all(tensor.dtype == torch.float32 for tensor in from_directory.tensors.values())


@pytest.mark.parametrize("name", PAPER_ARCHITECTURES)
@pytest.mark.parametrize("target", ["nerf.safetensors", "weights.pth", "directory"])
def test_round_trip(tmp_path, name, target):
    nerf = Nerf.random(name, seed=3)
    assert save_nerf(nerf, tmp_path / target).exists()
    loaded = load_nerf(tmp_path / target)
    assert loaded.architecture == nerf.architecture
    assert all(torch.equal(loaded.tensors[key], tensor) for key, tensor in nerf.tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == [target]


def test_tri_planes_carry_their_parameterless_encoding(tmp_path):
    file = save_nerf(Nerf.random("TRI"), tmp_path)
    assert torch.load(file, weights_only=True)["encoding.params"].shape == (0,)
    assert set(load_nerf(file).tensors) == {"mlp_base.params", "triplane"}


def test_safetensors_carries_an_ambiguous_architecture(tmp_path):
    nerf = Nerf.random(MlpArchitecture(hidden_layers=1, frequencies=10, bias=True))
    assert load_nerf(save_nerf(nerf, tmp_path / "a.safetensors")).architecture == nerf.architecture


def test_architecture_settles_an_ambiguous_file(tmp_path):
    path = save(tmp_path, {"mlp_base.params": torch.zeros(10240)})
    with pytest.raises(ValueError, match="several mlp architectures"):
        load_nerf(path)
    for layers, dim in ((1, 64), (6, 32)):
        sizes = {"family": "mlp", "hidden_layers": layers, "hidden_dim": dim}
        assert load_nerf(path, sizes).architecture == MlpArchitecture(hidden_layers=layers, hidden_dim=dim)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_converted(tmp_path, dtype):
    values = torch.randn(18432).to(dtype)
    loaded = load_nerf(save(tmp_path, {"mlp_base.params": values}))
    assert torch.equal(loaded.tensors["mlp_base.params"], values.float())


def test_save_copies_only_the_view(tmp_path):
    storage = torch.randn(10, 18432)
    path = save_nerf(Nerf(PAPER_ARCHITECTURES["MLP"], {"mlp_base.params": storage[3]}), tmp_path / "n.pth")
    assert path.stat().st_size < 2 * 18432 * 4


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "executed"
    torch_file = save(tmp_path, mlp(extra=Hostile(marker)))
    with pytest.raises(
        ValueError, match=r"nerf_weights\.pth: refused, its pickle asks for posix\.mkdir.*nothing was executed"
    ):
        load_nerf(torch_file)
    for protocol in range(2, 6):
        plain = save(tmp_path, pickle.dumps(Hostile(marker), protocol), f"plain{protocol}.pth")
        with pytest.raises(ValueError, match=f"plain{protocol}.pth: "):
            load_nerf(plain)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"some notes about a NeRF\n", "is no torch.save file, or cut short"),
        ((GOLDEN_NERF["MLP"] / "nerf_weights.pth").read_bytes()[:9000], "is no torch.save file, or cut short"),
        ({"density": torch.zeros(3)}, "holds no 'mlp_base.params'; found 'density'"),
        ([torch.zeros(3)], "holds a list; expected a dict"),
        ({"mlp_base.params": [1.0]}, "is a list; expected a tensor"),
        ({"mlp_base.params": torch.zeros(18432, dtype=torch.int32)}, "dtype torch.int32; expected floating-point"),
        ({"mlp_base.params": torch.zeros(18432, dtype=torch.complex64)}, "dtype torch.complex64"),
        ({"mlp_base.params": torch.zeros(18400)}, r"no mlp NeRF has mlp_base.params \[18400\]"),
        ({"mlp_base.params": torch.zeros(0)}, "no mlp NeRF"),
        ({"mlp_base.params": torch.zeros(()), "triplane": torch.zeros(())}, "no triplane NeRF"),
        ({"mlp_base.params": torch.zeros(128, 144)}, "no mlp NeRF"),
        ({"mlp_base.params": torch.zeros(18432).to_sparse()}, "expected a plain dense tensor"),
        (
            mlp(**{"mlp_base.params": torch.cat([torch.zeros(18431), torch.tensor([float("nan")])])}),
            "1 NaN or infinite",
        ),
        ({"mlp_base.params": torch.full((18432,), 1e300, dtype=torch.float64)}, "NaN or infinite"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    path = save(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load_nerf(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_contradicting_architecture(tmp_path):
    with pytest.raises(ValueError, match=r"shape \[18432\]; TRI needs \[28672\]"):
        load_nerf(save(tmp_path, mlp()), "TRI")
    with pytest.raises(ValueError, match="'triplane' does not belong to MLP"):
        load_nerf(save(tmp_path, mlp(triplane=torch.zeros(3, 2, 2, 1))), "MLP")
    with pytest.raises(ValueError, match="unknown architecture 'NOPE'"):
        load_nerf(save(tmp_path, mlp()), "NOPE")


def test_other_models_are_recognised():
    with pytest.raises(ValueError, match=r"GmnEncoder\.from_pretrained reads it"):
        load_nerf(GOLDEN / "ckpts" / "golden" / "best.pt")


def test_missing_things(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: no such file"):
        load_nerf(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError, match=r"directory without nerf_weights\.pth"):
        load_nerf(tmp_path)


def test_broken_safetensors(tmp_path):
    good = save_nerf(Nerf.random("MLP"), tmp_path / "good.safetensors").read_bytes()
    for content in (b"{}", good[:100], good[:-7], b"\xff" * 64):
        with pytest.raises(ValueError, match=r"bad\.safetensors: is no safetensors file, or cut short"):
            load_nerf(save(tmp_path, content, "bad.safetensors"))


def test_find_nerfs_searches_directories(tmp_path):
    save_nerf(Nerf.random("MLP"), tmp_path / "b" / "one")
    save_nerf(Nerf.random("MLP"), tmp_path / "a" / "two.safetensors")
    (tmp_path / "a" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert list(find_nerfs(tmp_path)) == [tmp_path / "a" / "two.safetensors", tmp_path / "b" / "one"]
    assert list(find_nerfs(tmp_path / "b" / "one")) == [tmp_path / "b" / "one"]
    assert list(find_nerfs(tmp_path / "absent")) == [tmp_path / "absent"]


def test_unwritable_and_full_outputs(tmp_path):
    nerf = Nerf.random("MLP")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        save_nerf(nerf, tmp_path / "file" / "nerf.safetensors")
    # A file-size limit stands in for a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for name in ("full.safetensors", "full.pth"):
            with pytest.raises(OSError, match=f"{name}: cannot be written"):
                save_nerf(nerf, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unknown_extension(tmp_path):
    with pytest.raises(ValueError, match=r"unknown extension '\.npz'"):
        save_nerf(Nerf.random("MLP"), tmp_path / "nerf.npz")

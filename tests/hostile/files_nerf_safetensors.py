"""NeRFs in safetensors: headers and architectures."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .forged import nerf_safetensors, safetensors_bytes, sparse, written
from .registry import hostile


@hostile("nerf")
def levels(folder: Path) -> Path:
    """1e9 levels of a hash grid, 12.7 GiB before the tensors were looked at."""
    return written(folder / "bad.safetensors", nerf_safetensors({"family": "hash", "levels": 10**9}, mlp=(2000,)))


@hostile("nerf")
def hidden_layers(folder: Path) -> Path:
    sizes = {"family": "mlp", "hidden_layers": 10**9}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(2000,)))


@hostile("nerf")
def max_resolution(folder: Path) -> Path:
    """An integer of 400 digits, which is no float."""
    sizes = {"family": "hash", "max_resolution": 10**400}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(2000,), table=(64,)))


@hostile("nerf")
def base_resolution(folder: Path) -> Path:
    sizes = {"family": "hash", "base_resolution": 10**300, "max_resolution": 10**301}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(2000,), table=(64,)))


@hostile("nerf")
def features_per_entry(folder: Path) -> Path:
    sizes = {"family": "hash", "features_per_entry": 10**12}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(2000,), table=(64,)))


@hostile("nerf")
def hidden_dim(folder: Path) -> Path:
    sizes = {"family": "mlp", "hidden_dim": 10**4000}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(2000,)))


@hostile("nerf")
def resolution_of_planes(folder: Path) -> Path:
    sizes = {"family": "triplane", "resolution": 10**9, "channels": 10**9}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(2000,), planes=(3, 2, 2, 1)))


@hostile("nerf")
def digits(folder: Path) -> Path:
    """More digits than Python turns into an integer."""
    metadata = '{"family": "hash", "levels": ' + "9" * 5000 + "}"
    return written(folder / "bad.safetensors", nerf_safetensors(metadata, mlp=(2000,)))


@hostile("nerf")
def exponent(folder: Path) -> Path:
    metadata = '{"family": "hash", "levels": 1e400, "max_resolution": Infinity}'
    return written(folder / "bad.safetensors", nerf_safetensors(metadata, mlp=(2000,)))


@hostile("nerf")
def sizes_of_other_types(folder: Path) -> Path:
    sizes = {"family": "hash", "levels": [4], "bias": {"yes": 1}}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(2000,)))


@hostile("nerf")
def family_that_is_a_list(folder: Path) -> Path:
    return written(folder / "bad.safetensors", nerf_safetensors({"family": ["hash"]}, mlp=(2000,)))


@hostile("nerf")
def architecture_that_is_a_number(folder: Path) -> Path:
    return written(folder / "bad.safetensors", nerf_safetensors(7, mlp=(2000,)))


@hostile("nerf")
def deep_architecture(folder: Path) -> Path:
    """JSON of 200,000 brackets in the metadata."""
    return written(folder / "bad.safetensors", nerf_safetensors("[" * 200_000 + "]" * 200_000, mlp=(2000,)))


@hostile("nerf")
def deep_size(folder: Path) -> Path:
    metadata = '{"family": "hash", "levels": ' + "[" * 900 + "]" * 900 + "}"
    return written(folder / "bad.safetensors", nerf_safetensors(metadata, mlp=(2000,)))


@hostile("nerf")
def thin_layers(folder: Path) -> Path:
    """300,000 layers of width 1 that are all there: legal, and a graph of 300,000 blocks."""
    sizes = {"family": "mlp", "hidden_layers": 300_000, "hidden_dim": 1}
    count = 144 + 299_999 + 16
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(count,)))


@hostile("nerf")
def octaves(folder: Path) -> Path:
    """100,000 frequencies, all there: 600,000 features for every point that is looked at."""
    sizes = {"family": "mlp", "hidden_layers": 1, "hidden_dim": 1, "frequencies": 100_000}
    return written(folder / "bad.safetensors", nerf_safetensors(sizes, mlp=(600_000 + 16,)))


@hostile("nerf")
def thin_levels(folder: Path) -> Path:
    """200,000 levels of two entries, all there."""
    levels = 200_000
    sizes = {"family": "hash", "levels": levels, "log2_table_size": 1, "features_per_entry": 1, "hidden_layers": 1}
    sizes |= {"hidden_dim": 1}
    content = nerf_safetensors(sizes, mlp=(levels + 16,), table=(2 * levels,))
    return written(folder / "bad.safetensors", content)


@hostile("nerf", harmless=("render",))
def wide_planes(folder: Path) -> Path:
    """Planes of 4,000 x 4,000 cells that the file has, as a hole on the disk: 48 million nodes of a graph."""
    planes = 3 * 4000 * 4000 * 4
    mlp = (16 + 16) * 4
    sizes = {"family": "triplane", "resolution": 4000, "channels": 1, "frequencies": 1, "hidden_layers": 1}
    header = {
        "mlp_base.params": {"dtype": "F32", "shape": [mlp // 4], "data_offsets": [0, mlp]},
        "triplane": {"dtype": "F32", "shape": [3, 4000, 4000, 1], "data_offsets": [mlp, mlp + planes]},
        "__metadata__": {"nerf_architecture": json.dumps({**sizes, "hidden_dim": 1})},
    }
    head = safetensors_bytes(header)
    return sparse(folder / "bad.safetensors", len(head) + mlp + planes, head)


@hostile("nerf")
def hole(folder: Path) -> Path:
    """A tensor of 8 GiB that the file has, as a hole on the disk."""
    size = 8 << 30
    header = {"mlp_base.params": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    head = safetensors_bytes(header)
    return sparse(folder / "bad.safetensors", len(head) + size, head)


@hostile("nerf", harmless=True)
def junk_beside_it(folder: Path) -> Path:
    """A good MLP beside a tensor of 8 GiB that no NeRF has, a hole on the disk."""
    count, junk = 144 * 64 + 2 * 64 * 64 + 16 * 64, 8 << 30
    header = {
        "mlp_base.params": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]},
        "junk": {"dtype": "U8", "shape": [junk], "data_offsets": [4 * count, 4 * count + junk]},
    }
    head = safetensors_bytes(header)
    return sparse(folder / "bad.safetensors", len(head) + 4 * count + junk, head)


@hostile("nerf")
def many_names(folder: Path) -> Path:
    """200,000 empty tensors."""
    header = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}
    return written(folder / "bad.safetensors", safetensors_bytes(header))


@hostile("nerf")
def header_of_exabytes(folder: Path) -> Path:
    return written(folder / "bad.safetensors", b"\xff" * 7 + b"\x7f" + b"{}")


@hostile("nerf")
def header_that_is_too_short(folder: Path) -> Path:
    return written(folder / "bad.safetensors", b"\x10\0\0\0\0\0\0\0{}")


@hostile("nerf")
def deep_header(folder: Path) -> Path:
    header = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    return written(folder / "bad.safetensors", safetensors_bytes(header))


@hostile("nerf")
def shape_that_overflows(folder: Path) -> Path:
    header = {"mlp_base.params": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 0]}}
    return written(folder / "bad.safetensors", safetensors_bytes(header))


@hostile("nerf")
def shape_with_a_zero(folder: Path) -> Path:
    """No elements, and a length that no index reaches."""
    header = {"mlp_base.params": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}
    return written(folder / "bad.safetensors", safetensors_bytes(header))


@hostile("nerf")
def rank(folder: Path) -> Path:
    """A tensor of 20,000 dimensions."""
    header = {"mlp_base.params": {"dtype": "F32", "shape": [1] * 20_000, "data_offsets": [0, 4]}}
    return written(folder / "bad.safetensors", safetensors_bytes(header, bytes(4)))


def _of_dtype(folder: Path, dtype: str, bits: int) -> Path:
    count = 144 * 64 + 2 * 64 * 64 + 16 * 64
    size = count * bits // 8
    header = {"mlp_base.params": {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}}
    return written(folder / "bad.safetensors", safetensors_bytes(header, b"\x11" * size))


@hostile("nerf")
def float8(folder: Path) -> Path:
    return _of_dtype(folder, "F8_E4M3", 8)


@hostile("nerf")
def float8_of_exponents(folder: Path) -> Path:
    return _of_dtype(folder, "F8_E8M0", 8)


@hostile("nerf")
def float4(folder: Path) -> Path:
    return _of_dtype(folder, "F4", 4)


@hostile("nerf")
def integers(folder: Path) -> Path:
    return _of_dtype(folder, "I64", 64)


@hostile("nerf")
def complex_numbers(folder: Path) -> Path:
    return _of_dtype(folder, "C64", 64)


@hostile("nerf")
def bits(folder: Path) -> Path:
    return _of_dtype(folder, "BOOL", 8)


@hostile("nerf", harmless=("load_nerf", "inspect", "upload", "render", "embed"))
def largest_weights(folder: Path) -> Path:
    """Finite weights whose embedding is not."""
    count = 144 * 64 + 2 * 64 * 64 + 16 * 64
    header = {"mlp_base.params": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    return written(folder / "bad.safetensors", safetensors_bytes(header, b"\xff\xff\x7f\x7f" * count))


@hostile("nerf")
def pipe(folder: Path) -> Path:
    """A pipe that nobody writes into, in a directory that is searched."""
    (folder / "bad-directory").mkdir()
    os.mkfifo(folder / "bad-directory" / "x.safetensors")
    return folder / "bad-directory"


@hostile("nerf")
def pipe_for_weights(folder: Path) -> Path:
    (folder / "bad-directory").mkdir()
    os.mkfifo(folder / "bad-directory" / "nerf_weights.pth")
    return folder / "bad-directory"


@hostile("nerf")
def device(folder: Path) -> Path:
    (folder / "bad-directory").mkdir()
    (folder / "bad-directory" / "nerf_weights.pth").symlink_to("/dev/zero")
    return folder / "bad-directory"


@hostile("nerf")
def circle_of_links(folder: Path) -> Path:
    (folder / "bad.safetensors").symlink_to("bad.safetensors")
    return folder / "bad.safetensors"

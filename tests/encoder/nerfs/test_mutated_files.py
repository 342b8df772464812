"""Whatever happens to a file, reading it ends in a clean result or in one sentence that names it."""

import io

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmn_encoder import GmnEncoder, Nerf, load_nerf, save_nerf
from tests.conftest import GOLDEN_NERF

SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reads_or_says_why(read, path):
    try:
        read(path)
    except (ValueError, OSError) as error:
        message = str(error)
        assert str(path) in message
        assert "\n" not in message
        assert len(message) < 2000


@st.composite
def damage(draw):
    """A list of edits: cut, overwrite, insert, remove, swap in noise at a relative place."""
    kinds = st.sampled_from(["cut", "flip", "insert", "remove"])
    edit = st.tuples(kinds, st.floats(0, 1), st.binary(min_size=1, max_size=16))
    return draw(st.lists(edit, min_size=1, max_size=4))


def apply(content, edits):
    data = bytearray(content)
    for kind, where, noise in edits:
        at = int(where * len(data))
        if kind == "cut":
            del data[at:]
        elif kind == "flip":
            data[at : at + len(noise)] = noise[: max(0, len(data) - at)]
        elif kind == "insert":
            data[at:at] = noise
        else:
            del data[at : at + len(noise)]
    return bytes(data)


@pytest.fixture(scope="module")
def valid_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    small = {"family": "hash", "levels": 2, "log2_table_size": 8, "hidden_dim": 16}
    safetensors = save_nerf(Nerf.random(small), folder / "nerf.safetensors").read_bytes()
    return [("nerf.pth", (GOLDEN_NERF["MLP"] / "nerf_weights.pth").read_bytes()), ("nerf.safetensors", safetensors)]


@SETTINGS
@given(which=st.integers(0, 1), edits=damage())
def test_damaged_bytes(tmp_path, valid_files, which, edits):
    name, content = valid_files[which]
    path = tmp_path / name
    path.write_bytes(apply(content, edits))
    reads_or_says_why(load_nerf, path)
    reads_or_says_why(GmnEncoder.from_pretrained, path)


def filled(shape, value, dtype):
    return (
        torch.full(tuple(shape), value).nan_to_num(7.0).to(dtype)
        if dtype != torch.float32
        else torch.full(tuple(shape), value)
    )


TENSORS = st.one_of(
    st.builds(
        filled,
        st.lists(st.sampled_from([0, 1, 2, 3, 16, 32, 64, 144, 7168, 18432]), max_size=4).filter(
            lambda shape: torch.Size(shape).numel() <= 10**6
        ),
        st.sampled_from([0.0, 1.0, float("nan"), float("inf")]),
        dtype=st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64]),
    ),
    st.none(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
)
KEYS = st.sampled_from(["mlp_base.params", "triplane", "encoding.params", "mlp_base.biases", "class_id", "encoder"])


@SETTINGS
@given(content=st.one_of(st.dictionaries(KEYS, TENSORS, max_size=5), TENSORS), name=st.sampled_from(["a.pth", "b"]))
def test_unexpected_contents(tmp_path, content, name):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = tmp_path / name
    path.write_bytes(buffer.getvalue())
    reads_or_says_why(load_nerf, path)
    reads_or_says_why(GmnEncoder.from_pretrained, path)


SIZES = st.dictionaries(
    st.sampled_from(["family", "hidden_layers", "hidden_dim", "resolution", "channels", "levels", "bias", "other"]),
    st.one_of(st.sampled_from(["mlp", "triplane", "hash"]), st.integers(-2, 70), st.none(), st.floats()),
)


@SETTINGS
@given(architecture=st.one_of(SIZES, st.text(max_size=8), st.sampled_from(["MLP", "TRI", "HASH-3N"])))
def test_unexpected_architectures(architecture):
    path = GOLDEN_NERF["MLP"] / "nerf_weights.pth"
    reads_or_says_why(lambda file: load_nerf(file, architecture), path)

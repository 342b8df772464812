"""What no list of files has: headers, pickles and configurations made at random. Each is read, or refused with a `ValueError`."""

from __future__ import annotations

import contextlib
import io
import json
import pickletools
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmn_encoder.encoders.base import encoder_config
from gmn_encoder.nerfs.architectures import FAMILIES, parse_architecture
from gmn_encoder.nerfs.files import load_nerf
from gmn_encoder.pickles import PickleError, Walk

from .forged import archive, pickled, safetensors_bytes

_SETTINGS = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

_NUMBERS = st.one_of(st.integers(-3, 70), st.sampled_from([10**9, 10**400, -(10**30), 1 << 63]), st.floats())
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def refused_or_read(action) -> None:
    with contextlib.suppress(ValueError, TypeError, OSError):
        action()


_TENSORS = st.dictionaries(
    st.sampled_from(["mlp_base.params", "encoding.params", "triplane", "mlp_base.biases", "x"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "F8_E4M3", "BOOL", "F9"]),
            "shape": st.lists(st.sampled_from([0, 1, 2, 3, 16, 256, 1 << 40, 1 << 63]), max_size=4),
            "data_offsets": st.tuples(st.sampled_from([0, 4, 64]), st.sampled_from([0, 4, 64, 1024, 1 << 62])),
        }
    ),
    max_size=3,
)


@_SETTINGS
@given(tensors=_TENSORS, metadata=st.none() | _JSON, data=st.sampled_from([0, 64, 1024]))
def test_headers_of_safetensors(tmp_path, tensors, metadata, data):
    header = dict(tensors)
    if metadata is not None:
        header["__metadata__"] = {"nerf_architecture": json.dumps(metadata)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes(header, bytes(data)))
    with contextlib.suppress(ValueError) as _:
        try:
            load_nerf(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
            raise


_SIZES = sorted({name for cls in FAMILIES.values() for name in cls.__dataclass_fields__})


@_SETTINGS
@given(
    family=st.sampled_from([*FAMILIES]),
    sizes=st.dictionaries(st.sampled_from(_SIZES), _NUMBERS | _JSON, max_size=4),
)
def test_architectures(family, sizes):
    def use():
        architecture = parse_architecture({"family": family, **sizes})
        assert architecture.num_parameters > 0 and hash(architecture) and architecture.name

    refused_or_read(use)


@_SETTINGS
@given(
    kind=st.sampled_from(["gmn_encoder", "nf2vec"]),
    values=st.dictionaries(
        st.sampled_from(["hidden_dim", "num_layers", "embedding_dim", "hidden_dims", "layout", "readout_dim"]), _JSON
    ),
)
def test_configurations_of_encoders(kind, values):
    refused_or_read(lambda: encoder_config({"model_type": kind, **values}).to_dict())


_ARGUMENTS = {
    "PROTO": st.sampled_from([b"\x02", b"\x04", b"\xff"]),
    "BININT1": st.binary(min_size=1, max_size=1),
    "BININT": st.binary(min_size=4, max_size=4),
    "BINPUT": st.sampled_from([b"\0", b"\1"]),
    "BINGET": st.sampled_from([b"\0", b"\1"]),
    "LONG1": st.sampled_from([b"\1\1", b"\x20" + b"\x7f" * 32]),
    "BINUNICODE": st.sampled_from([struct.pack("<I", 1) + b"a", struct.pack("<I", 7) + b"storage", b"\xff" * 4]),
    "GLOBAL": st.sampled_from(
        [
            *(b"collections\nOrderedDict\n", b"torch._utils\n_rebuild_tensor_v2\n", b"torch\nFloatStorage\n"),
            *(b"builtins\nbytearray\n", b"posix\nsystem\n", b"torch\nSize\n", b"_codecs\nencode\n", b"torch\ndevice\n"),
        ]
    ),
}
_PLAIN = [opcode for opcode in pickletools.opcodes if opcode.arg is None]
_CODES = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}
_STEP = st.one_of(
    st.sampled_from([opcode.code.encode("latin-1") for opcode in _PLAIN if opcode.name != "STOP"]),
    *(argument.map(lambda value, code=_CODES[name]: code + value) for name, argument in _ARGUMENTS.items()),
)


@_SETTINGS
@given(steps=st.lists(_STEP, max_size=30))
def test_streams_of_opcodes(tmp_path, steps):
    """What the walk refuses, it refuses in its own words; what it lets through, torch reads without running anything."""
    stream = pickled(b"".join(steps))
    with contextlib.suppress(PickleError):
        Walk().walk(io.BytesIO(stream))
    path = archive(tmp_path / "x.pth", stream)
    with pytest.raises(ValueError, match=r"x\.pth: "):
        load_nerf(path)

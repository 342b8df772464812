"""NeRFs in torch files: pickles, and the archives around them."""

from __future__ import annotations

import struct
from pathlib import Path

from .forged import (
    BINPERSID,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    MARK,
    NEWFALSE,
    PROTOCOL,
    REDUCE,
    SETITEMS,
    STOP,
    archive,
    called,
    deflated,
    deflated_zeros,
    integer,
    legacy,
    legacy_storage,
    mapping,
    named,
    pair,
    pickled,
    raw_archive,
    sparse,
    storage,
    tensor,
    text,
    written,
)
from .registry import hostile

MLP = 144 * 64 + 2 * 64 * 64 + 16 * 64
"""Weights of the paper's MLP."""

_WEIGHTS = {"0": struct.pack("<f", 0.01) * MLP}
_GOOD = tensor([MLP], elements=MLP)


def _beside(folder: Path, value: bytes) -> Path:
    """A good NeRF with another entry, which is not read."""
    return archive(folder / "bad.pth", pickled(mapping({"mlp_base.params": _GOOD, "junk": value})), _WEIGHTS)


def _instead(folder: Path, value: bytes) -> Path:
    """A file whose weights are something else."""
    return archive(folder / "bad.pth", pickled(mapping({"mlp_base.params": value})), _WEIGHTS)


# What opcodes and calls make


@hostile("nerf")
def bytearray_of_six_billion(folder: Path) -> Path:
    return _beside(folder, called("builtins", "bytearray", integer(6 * 10**9)))


@hostile("nerf")
def bytearray_of_protocol_2(folder: Path) -> Path:
    return _beside(folder, called("__builtin__", "bytearray", integer(6 * 10**9)))


@hostile("nerf")
def bytearray8(folder: Path) -> Path:
    return _beside(folder, b"\x96" + struct.pack("<Q", 6 * 10**9))


@hostile("nerf")
def binbytes8(folder: Path) -> Path:
    return _beside(folder, b"\x8e" + struct.pack("<Q", 6 * 10**9))


@hostile("nerf")
def legacy_string(folder: Path) -> Path:
    """A string of 4 GB that a pickle outside an archive announces."""
    return legacy(folder / "bad.pth", PROTOCOL + b"X" + struct.pack("<I", 0xFFFFFFFF))


@hostile("nerf")
def long4(folder: Path) -> Path:
    """An integer of 40 million bits."""
    return _beside(folder, b"\x8b" + struct.pack("<I", 5_000_000) + b"\x7f" * 5_000_000)


@hostile("nerf")
def digits_in_text(folder: Path) -> Path:
    return _beside(folder, b"L" + b"9" * 2_000_000 + b"L\n")


@hostile("nerf")
def shape_of_4000_digits(folder: Path) -> Path:
    return _instead(folder, tensor([10**4000], elements=MLP))


@hostile("nerf")
def many_lists(folder: Path) -> Path:
    """40 million empty lists from 40 KB."""
    pickle = pickled(mapping({"mlp_base.params": _GOOD, "junk": MARK + EMPTY_LIST * 40_000_000 + b"l"}))
    return archive(folder / "bad.pth", pickle, _WEIGHTS, deflate=True)


@hostile("nerf", harmless=True)
def deep_lists(folder: Path) -> Path:
    return _beside(folder, (EMPTY_LIST + MARK) * 250_000 + b"e" * 250_000)


@hostile("nerf")
def deep_tuple_as_key(folder: Path) -> Path:
    """A key that is hashed tuple by tuple."""
    deep = EMPTY_TUPLE + b"\x85" * 400_000
    return archive(folder / "bad.pth", pickled(EMPTY_DICT + MARK + deep + b"N" + SETITEMS), _WEIGHTS)


@hostile("nerf", harmless=True)
def laughs(folder: Path) -> Path:
    """Ten lists of ten of the list before: 10^10 in all, where somebody goes through them."""
    value = EMPTY_LIST + b"q\x01"
    for depth in range(1, 11):
        value += EMPTY_LIST + b"q" + bytes([depth + 1]) + MARK + (b"h" + bytes([depth])) * 10 + b"e"
    value = value[len(EMPTY_LIST + b"q\x01") :]
    return _beside(folder, pair(EMPTY_LIST + b"q\x01", value))


@hostile("nerf", harmless=True)
def snake(folder: Path) -> Path:
    """A list that is in itself."""
    return _beside(folder, EMPTY_LIST + b"q\x01" + MARK + b"h\x01" + b"e")


@hostile("nerf")
def dict_in_itself(folder: Path) -> Path:
    pickle = PROTOCOL + EMPTY_DICT + b"q\x01" + MARK + text("encoder") + b"h\x01" + SETITEMS + STOP
    return archive(folder / "bad.pth", pickle, _WEIGHTS)


@hostile("nerf")
def memo_of_four_billion(folder: Path) -> Path:
    return _beside(folder, b"r" + struct.pack("<I", 0xFFFFFFFF) + b"j" + struct.pack("<I", 0xFFFFFFFE))


@hostile("nerf")
def empty_stack(folder: Path) -> Path:
    return archive(folder / "bad.pth", PROTOCOL + REDUCE + STOP, _WEIGHTS)


@hostile("nerf")
def unhashable_key(folder: Path) -> Path:
    return archive(folder / "bad.pth", pickled(EMPTY_DICT + MARK + EMPTY_LIST + b"N" + SETITEMS), _WEIGHTS)


@hostile("nerf")
def system_call(folder: Path) -> Path:
    return _beside(folder, called("posix", "system", text("touch /tmp/never")))


@hostile("nerf")
def attribute_of_torch(folder: Path) -> Path:
    return _beside(folder, called("torch.serialization", "load", text("/etc/passwd")))


@hostile("nerf")
def state_of_an_object(folder: Path) -> Path:
    """BUILD, which sets attributes, on a tensor."""
    return _instead(folder, _GOOD + mapping({"requires_grad": b"\x88"}) + b"b")


@hostile("nerf")
def storage_called(folder: Path) -> Path:
    """The class of a storage, called with a size."""
    return _beside(folder, called("torch", "FloatStorage", integer(6 * 10**9)))


@hostile("nerf")
def size_called(folder: Path) -> Path:
    return _beside(folder, called("torch", "Tensor", integer(6 * 10**9)))


@hostile("nerf")
def class_made_anew(folder: Path) -> Path:
    """NEWOBJ of a tensor class."""
    return _beside(folder, named("torch.nn.parameter", "Parameter") + EMPTY_TUPLE + b"\x81")


@hostile("nerf")
def large_size(folder: Path) -> Path:
    """torch.Size of 100,000 lengths, as weights."""
    return _instead(folder, called("torch", "Size", pair(*[integer(1)] * 100_000)))


@hostile("nerf")
def frozen_stream(folder: Path) -> Path:
    """Protocol 5, with a frame of exabytes."""
    pickle = b"\x80\x05\x95" + struct.pack("<Q", 1 << 60) + EMPTY_DICT + STOP
    return archive(folder / "bad.pth", pickle, _WEIGHTS)


@hostile("nerf")
def surrogates(folder: Path) -> Path:
    """Keys that are no text, which a message could not print."""
    key = b"X" + struct.pack("<I", 3) + b"\xed\xa0\x80"
    return archive(folder / "bad.pth", pickled(EMPTY_DICT + MARK + key + b"N" + SETITEMS), _WEIGHTS)


@hostile("nerf")
def long_key(folder: Path) -> Path:
    return archive(folder / "bad.pth", pickled(mapping({"x" * 1_000_000: b"N"})), _WEIGHTS)


@hostile("nerf")
def keys_with_lines(folder: Path) -> Path:
    """A key that would write lines of its own into a log, and clear the terminal."""
    return archive(folder / "bad.pth", pickled(mapping({"\n\x1b[2Jllana-gmn: all is well\n": b"N"})), _WEIGHTS)


# Tensors that are not what they look like


@hostile("nerf")
def stride_zero(folder: Path) -> Path:
    """4e10 weights over one number."""
    return _instead(folder, tensor([4 * 10**10], strides=[0], elements=1))


@hostile("nerf")
def stride_zero_of_a_known_shape(folder: Path) -> Path:
    """The paper's MLP, over one number."""
    return _instead(folder, tensor([MLP], strides=[0], elements=1))


@hostile("nerf")
def stride_zero_of_a_large_hash(folder: Path) -> Path:
    """A hash grid of 8 GB that fits the sizes which are searched, over one number."""
    weights = 16 * 2 * 128**3
    values = {"mlp_base.params": _GOOD, "encoding.params": tensor([weights], strides=[0], elements=1)}
    return archive(folder / "bad.pth", pickled(mapping(values)), _WEIGHTS)


@hostile("nerf")
def negative_stride(folder: Path) -> Path:
    return _instead(folder, tensor([MLP], strides=[-1], elements=MLP))


@hostile("nerf")
def offset_beyond_the_storage(folder: Path) -> Path:
    return _instead(folder, tensor([MLP], elements=MLP, offset=10**15))


@hostile("nerf")
def storage_of_terabytes(folder: Path) -> Path:
    return _instead(folder, tensor([MLP], elements=10**12))


@hostile("nerf")
def negative_storage(folder: Path) -> Path:
    return _instead(folder, tensor([MLP], elements=-5))


@hostile("nerf")
def legacy_storage_of_terabytes(folder: Path) -> Path:
    """Memory for storages is taken before their bytes are read."""
    value = tensor([MLP], elements=MLP, stored=legacy_storage(10**10))
    keys = pickled(EMPTY_LIST + MARK + text("0") + b"e")
    rest = struct.pack("<q", 10**10)
    return legacy(folder / "bad.pth", pickled(mapping({"mlp_base.params": value})), keys + rest)


@hostile("nerf")
def legacy_storages(folder: Path) -> Path:
    """2,000 storages of 4 MB that are not there."""
    values = {f"t{i}": tensor([1], elements=1, stored=legacy_storage(1_000_000, key=str(i))) for i in range(2000)}
    return legacy(folder / "bad.pth", pickled(mapping(values)))


@hostile("nerf")
def storage_that_is_missing(folder: Path) -> Path:
    stored = storage(MLP, key="../../version")
    return _instead(folder, tensor([MLP], elements=MLP, stored=stored))


@hostile("nerf", harmless=True)
def storage_on_another_device(folder: Path) -> Path:
    stored = pair(text("storage"), named("torch", "FloatStorage"), text("0"), text("meta"), integer(MLP)) + BINPERSID
    return _instead(folder, tensor([MLP], elements=MLP, stored=stored))


def _of_dtype(folder: Path, dtype: str, size: int, count: int = MLP) -> Path:
    stored = pair(text("storage"), named("torch", "UntypedStorage"), text("0"), text("cpu"), integer(count * size))
    value = called(
        "torch._utils",
        "_rebuild_tensor_v3",
        stored + BINPERSID,
        integer(0),
        pair(integer(count)),
        pair(integer(1)),
        NEWFALSE,
        called("collections", "OrderedDict"),
        named("torch", dtype),
    )
    return archive(folder / "bad.pth", pickled(mapping({"mlp_base.params": value})), {"0": b"\x11" * count * size})


@hostile("nerf")
def pickled_float8(folder: Path) -> Path:
    return _of_dtype(folder, "float8_e4m3fn", 1)


@hostile("nerf")
def pickled_float8_of_exponents(folder: Path) -> Path:
    return _of_dtype(folder, "float8_e8m0fnu", 1)


@hostile("nerf")
def pickled_float4(folder: Path) -> Path:
    return _of_dtype(folder, "float4_e2m1fn_x2", 1)


@hostile("nerf")
def pickled_bits(folder: Path) -> Path:
    return _of_dtype(folder, "bits8", 1)


@hostile("nerf")
def pickled_complex(folder: Path) -> Path:
    return _of_dtype(folder, "complex64", 8)


@hostile("nerf")
def quantised(folder: Path) -> Path:
    stored = pair(text("storage"), named("torch", "QInt8Storage"), text("0"), text("cpu"), integer(MLP)) + BINPERSID
    scheme = pair(named("torch", "per_tensor_affine"), b"G?\xf0" + bytes(6), integer(0))
    value = called(
        "torch._utils",
        "_rebuild_qtensor",
        *(stored, integer(0), pair(integer(MLP)), pair(integer(1)), scheme, NEWFALSE),
        called("collections", "OrderedDict"),
    )
    return _instead(folder, value)


@hostile("nerf")
def nested(folder: Path) -> Path:
    lengths = tensor([1, 1], elements=2, stored=storage(2, key="1", kind="LongStorage"))
    offsets = tensor([1], elements=1, stored=storage(2, key="1", kind="LongStorage"))
    value = called("torch._utils", "_rebuild_nested_tensor", _GOOD, lengths, lengths, offsets)
    storages = {**_WEIGHTS, "1": struct.pack("<qq", MLP, 1)}
    return archive(folder / "bad.pth", pickled(mapping({"mlp_base.params": value})), storages)


@hostile("nerf")
def sparse_weights(folder: Path) -> Path:
    """A sparse tensor of 10^12 weights of which one is stored."""
    layout = called("torch.serialization", "_get_layout", text("torch.sparse_coo"))
    index = tensor([1, 1], elements=1, stored=storage(1, key="1", kind="LongStorage"))
    size = called("torch", "Size", pair(integer(10**12)))
    data = pair(index, tensor([1], elements=1), size, b"\x88")
    value = called("torch._utils", "_rebuild_sparse_tensor", layout, data)
    storages = {"0": bytes(4), "1": bytes(8)}
    return archive(folder / "bad.pth", pickled(mapping({"mlp_base.params": value})), storages)


@hostile("nerf")
def meta_tensor(folder: Path) -> Path:
    """A tensor without data, on no device."""
    value = called(
        "torch._utils",
        "_rebuild_meta_tensor_no_storage",
        *(named("torch", "float32"), pair(integer(MLP)), pair(integer(1)), NEWFALSE),
    )
    return _instead(folder, value)


@hostile("nerf")
def parameter_of_a_number(folder: Path) -> Path:
    """A parameter that wraps no tensor."""
    return _instead(
        folder, called("torch._utils", "_rebuild_parameter", integer(3), NEWFALSE, called("collections", "OrderedDict"))
    )


# Archives


@hostile("nerf")
def deflated_pickle(folder: Path) -> Path:
    """A pickle of 1 GiB, of which the disk has 1 MiB."""
    packed = deflated_zeros(1 << 30)
    return raw_archive(folder / "bad.pth", [("archive/data.pkl", *packed), ("archive/version", *deflated(b"3\n"))])


@hostile("nerf")
def deflated_storages(folder: Path) -> Path:
    """A good NeRF beside 60 tensors of 64 MiB, which take 4 MB on the disk and 4 GB in memory."""
    count = 16 << 20
    junk = {f"j{i}": tensor([count], elements=count, stored=storage(count, key=f"j{i}")) for i in range(60)}
    pickle = pickled(mapping({"mlp_base.params": _GOOD, **junk}))
    zeros = deflated_zeros(4 * count)
    members = [
        ("archive/data.pkl", *deflated(pickle)),
        ("archive/data/0", *deflated(_WEIGHTS["0"])),
        ("archive/version", *deflated(b"3\n")),
        *((f"archive/data/j{i}", *zeros) for i in range(60)),
    ]
    return raw_archive(folder / "bad.pth", members)


@hostile("nerf")
def overlapping_members(folder: Path) -> Path:
    """60,000 names of one member of 1 MiB: 60 GB."""
    zeros = deflated_zeros(1 << 20)
    return raw_archive(folder / "bad.pth", ((f"archive/data/{i}", *zeros) for i in range(60_000)), overlapping=True)


@hostile("nerf")
def member_that_lies(folder: Path) -> Path:
    """A directory that says 2 bytes of a pickle that unpacks to 256 MiB."""
    packed, crc, _ = deflated_zeros(256 << 20)
    members = [("archive/data.pkl", packed, crc, 2), ("archive/version", *deflated(b"3\n"))]
    return raw_archive(folder / "bad.pth", members)


@hostile("nerf")
def archive_without_pickle(folder: Path) -> Path:
    return raw_archive(folder / "bad.pth", [("archive/version", *deflated(b"3\n"))])


@hostile("nerf")
def truncated_archive(folder: Path) -> Path:
    whole = archive(folder / "whole.pth", pickled(mapping({"mlp_base.params": _GOOD})), _WEIGHTS)
    content = whole.read_bytes()
    whole.unlink()
    return written(folder / "bad.pth", content[: len(content) // 2])


@hostile("nerf")
def zeros(folder: Path) -> Path:
    """8 GiB of zeros, a hole on the disk."""
    return sparse(folder / "bad.pth", 8 << 30)


@hostile("nerf")
def zeros_after_a_pickle(folder: Path) -> Path:
    """A list, not a dict, then 8 GiB of zeros."""
    return sparse(folder / "bad.pth", 8 << 30, pickled(EMPTY_LIST))


@hostile("nerf")
def old_tar(folder: Path) -> Path:
    """The format of 2016, which unpacks files into a directory."""
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("storages", "tensors", "pickle", "../../outside"):
            member = tarfile.TarInfo(name)
            member.size = 16
            tar.addfile(member, io.BytesIO(bytes(16)))
    return written(folder / "bad.pth", buffer.getvalue())

"""Writers of splat files after the formats' descriptions, for tests; nothing here is shared with the decoders."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

C0 = 0.28209479177387814


@dataclass
class Cloud:
    """Splats as numbers: scales are standard deviations, quaternions w, x, y, z, `rest` (N, K - 1, 3)."""

    means: np.ndarray
    scales: np.ndarray
    rotations: np.ndarray
    opacities: np.ndarray
    constant: np.ndarray
    rest: np.ndarray

    def __len__(self) -> int:
        return len(self.means)

    @property
    def covariances(self) -> np.ndarray:
        w, x, y, z = self.rotations.T
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        ).transpose(2, 0, 1)
        spread = turn * self.scales[:, None]
        return spread @ spread.transpose(0, 2, 1)


def random_cloud(count: int = 40, degree: int = 0, seed: int = 0) -> Cloud:
    generator = np.random.default_rng(seed)
    rotations = generator.normal(size=(count, 4))
    rotations /= np.linalg.norm(rotations, axis=1, keepdims=True)
    return Cloud(
        generator.uniform(-1, 1, (count, 3)),
        np.exp(generator.uniform(-5, -2, (count, 3))),
        rotations,
        generator.uniform(0.05, 0.95, count),
        generator.uniform(-1, 1, (count, 3)),
        generator.uniform(-0.9, 0.9, (count, (degree + 1) ** 2 - 1, 3)),
    )


def logit(values: np.ndarray) -> np.ndarray:
    return np.log(values / (1 - values))


def ply_header(form: str, elements: list[tuple[str, int, list[str]]], comments: tuple[str, ...] = ()) -> bytes:
    lines = ["ply", f"format {form} 1.0", *(f"comment {text}" for text in comments)]
    for name, count, properties in elements:
        lines += [f"element {name} {count}", *(f"property {each}" for each in properties)]
    return "\n".join([*lines, "end_header", ""]).encode()


def write_ply(
    cloud: Cloud,
    form: str = "binary_little_endian",
    *,
    scales: int = 3,
    rgb: bool = False,
    comments: tuple[str, ...] = (),
) -> bytes:
    columns = {name: cloud.means[:, k] for k, name in enumerate("xyz")}
    colours = ["red", "green", "blue"] if rgb else ["f_dc_0", "f_dc_1", "f_dc_2"]
    for k, name in enumerate(colours):
        columns[name] = 0.5 + C0 * cloud.constant[:, k] if rgb else cloud.constant[:, k]
    by_channel = cloud.rest.transpose(0, 2, 1).reshape(len(cloud), -1)  # all of red, then green, then blue
    columns |= {f"f_rest_{k}": column for k, column in enumerate(by_channel.T)}
    columns["opacity"] = logit(cloud.opacities)
    columns |= {f"scale_{k}": np.log(cloud.scales[:, k]) for k in range(scales)}
    columns |= {f"rot_{k}": 2.5 * cloud.rotations[:, k] for k in range(4)}  # of any length
    table = np.stack(list(columns.values()), axis=1)
    head = ply_header(form, [("vertex", len(cloud), [f"float {name}" for name in columns])], comments)
    if form == "ascii":
        return head + "\n".join(" ".join(f"{value:.9g}" for value in row) for row in table).encode()
    return head + table.astype("<f4" if form == "binary_little_endian" else ">f4").tobytes()


def smallest_three(quaternion: np.ndarray) -> tuple[int, np.ndarray]:
    """The place of the largest component and the others, in order, for a quaternion whose largest is positive."""
    place = int(np.abs(quaternion).argmax())
    return place, np.delete(quaternion * np.sign(quaternion[place]), place)


def write_compressed_ply(cloud: Cloud, *, colour_limits: bool = True) -> bytes:
    colours = 0.5 + C0 * cloud.constant
    chunks, packed = [], []
    for start in range(0, len(cloud), 256):
        rows = slice(start, start + 256)
        parts = [cloud.means[rows], np.log(cloud.scales[rows]), colours[rows] if colour_limits else None]
        limits = [(p.min(0), p.max(0)) if p is not None else (np.zeros(3), np.ones(3)) for p in parts]
        chunks.append(np.concatenate([np.concatenate(pair) for pair in (limits if colour_limits else limits[:2])]))
        unit = [(p - low) / (high - low) for p, (low, high) in zip([*parts[:2], colours[rows]], limits, strict=True)]
        for position, scale, colour, rotation, opacity in zip(
            *unit, cloud.rotations[rows], cloud.opacities[rows], strict=True
        ):
            place, others = smallest_three(rotation)
            three = [
                (round(v[0] * 2047) << 21 | round(v[1] * 1023) << 11 | round(v[2] * 2047)) for v in (position, scale)
            ]
            a, b, c = (round((v / np.sqrt(2) + 0.5) * 1023) for v in others)
            rgba = [round(float(v) * 255) for v in [*colour.clip(0, 1), opacity]]
            colour_word = rgba[0] << 24 | rgba[1] << 16 | rgba[2] << 8 | rgba[3]
            packed.append([three[0], place << 30 | a << 20 | b << 10 | c, three[1], colour_word])
    names = ["x", "y", "z", "scale_x", "scale_y", "scale_z", *("rgb" if colour_limits else "")]
    groups = [names[k : k + 3] for k in range(0, len(names), 3)]
    limit_names = [f"float {end}_{name}" for group in groups for end in ("min", "max") for name in group]
    words = ["uint packed_position", "uint packed_rotation", "uint packed_scale", "uint packed_color"]
    elements = [("chunk", len(chunks), limit_names), ("vertex", len(cloud), words)]
    rest = cloud.rest.transpose(0, 2, 1).reshape(len(cloud), -1)
    if rest.shape[1]:
        elements.append(("sh", len(cloud), [f"uchar f_rest_{k}" for k in range(rest.shape[1])]))
    body = np.array(chunks, "<f4").tobytes() + np.array(packed, "<u4").tobytes()
    return ply_header("binary_little_endian", elements) + body + ((rest + 4) * 255 / 8).round().astype("u1").tobytes()


def _bytes(values: np.ndarray) -> np.ndarray:
    return (values * 255).round().clip(0, 255).astype("u1")


def write_splat(cloud: Cloud) -> bytes:
    rgba = _bytes(np.concatenate([0.5 + C0 * cloud.constant, cloud.opacities[:, None]], axis=1))
    rotations = (cloud.rotations * 128 + 128).round().clip(0, 255).astype("u1")
    rows = zip(cloud.means.astype("<f4"), cloud.scales.astype("<f4"), rgba, rotations, strict=True)
    return b"".join(part.tobytes() for row in rows for part in row)


def write_ksplat(cloud: Cloud, *, level: int = 0, sections: int = 1) -> bytes:
    head = bytearray(4096)
    head[:2] = b"\x00\x01"
    struct.pack_into("<IIIIH", head, 4, sections, sections, len(cloud), len(cloud), level)
    heads, bodies = b"", b""
    rest = cloud.rest.transpose(0, 2, 1).reshape(len(cloud), -1).astype("<f4")
    for rows in np.array_split(np.arange(len(cloud)), sections):
        section = bytearray(1024)
        struct.pack_into("<II", section, 0, len(rows), len(rows))
        struct.pack_into("<H", section, 40, round((cloud.rest.shape[1] + 1) ** 0.5) - 1)
        heads += section
        rgba = _bytes(np.concatenate([0.5 + C0 * cloud.constant, cloud.opacities[:, None]], axis=1))
        for k in rows:
            bodies += cloud.means[k].astype("<f4").tobytes() + cloud.scales[k].astype("<f4").tobytes()
            bodies += cloud.rotations[k].astype("<f4").tobytes() + rgba[k].tobytes() + rest[k].tobytes()
    return bytes(head) + heads + bodies


def spz_streams(cloud: Cloud, version: int, bits: int = 12) -> list[bytes]:
    """Positions, opacities, colours, scales, rotations, harmonics."""
    if version == 1:
        positions = cloud.means.astype("<f2").tobytes()
    else:
        whole = (cloud.means * 2**bits).round().astype("<i4")
        positions = b"".join(int(value).to_bytes(3, "little", signed=True) for value in whole.flat)
    rotations = b""
    for w, x, y, z in cloud.rotations:
        if version < 3:
            sign = 1 if w >= 0 else -1
            rotations += bytes(round(float((sign * v + 1) * 127.5)) for v in (x, y, z))
            continue
        place, others = smallest_three(np.array([x, y, z, w]))
        word = place
        for value in others:
            word = word << 10 | int(value < 0) << 9 | round(float(abs(value) / np.sqrt(0.5) * 511))
        rotations += struct.pack("<I", word)
    return [
        positions,
        _bytes(cloud.opacities).tobytes(),
        _bytes(0.5 + 0.15 * cloud.constant).tobytes(),
        ((np.log(cloud.scales) + 10) * 16).round().astype("u1").tobytes(),
        rotations,
        (cloud.rest * 128 + 128).round().clip(0, 255).astype("u1").tobytes(),
    ]


def spz_header(version: int, count: int, degree: int, bits: int = 12) -> bytes:
    return b"NGSP" + struct.pack("<IIBBBB", version, count, degree, bits, 0, 6 if version == 4 else 0)


def write_spz(cloud: Cloud, version: int) -> bytes:
    degree = round((cloud.rest.shape[1] + 1) ** 0.5) - 1
    streams = spz_streams(cloud, version)
    if version < 4:
        return gzip.compress(spz_header(version, len(cloud), degree) + b"".join(streams))
    import zstandard

    packed = [zstandard.ZstdCompressor().compress(stream) for stream in streams]
    table = b"".join(struct.pack("<QQ", len(p), len(s)) for p, s in zip(packed, streams, strict=True))
    return spz_header(4, len(cloud), degree) + struct.pack("<I", 32) + bytes(12) + table + b"".join(packed)


def picture(values: np.ndarray, width: int | None = None) -> bytes:
    """A lossless WebP of pixels (N, 3 or 4), row by row, the rest of the last row black."""
    width = width or -(-int(len(values) ** 0.5 + 3) // 4) * 4
    rows = -(-len(values) // width)
    pixels = np.zeros((rows * width, 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(values), : values.shape[1]] = values
    buffer = io.BytesIO()
    Image.fromarray(pixels.reshape(rows, width, 4)).save(buffer, "WEBP", lossless=True, exact=True)
    return buffer.getvalue()


def sog_files(cloud: Cloud, version: int = 2) -> dict[str, bytes]:
    logs = np.sign(cloud.means) * np.log1p(np.abs(cloud.means))
    low, high = logs.min(0), logs.max(0)
    whole = ((logs - low) / (high - low) * 65535).round().astype(np.uint16)
    quats = np.zeros((len(cloud), 4), np.uint8)
    for k, rotation in enumerate(cloud.rotations):
        place, others = smallest_three(rotation)
        quats[k] = [*_bytes((others * np.sqrt(2) + 1) / 2), 252 + place]
    scales = np.log(cloud.scales)
    meta: dict = {
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "quats": {"files": ["quats.webp"]},
    }
    files = {"means_l.webp": picture(whole & 255), "means_u.webp": picture(whole >> 8), "quats.webp": picture(quats)}
    if version == 2:
        books = [np.linspace(part.min(), part.max(), 256) for part in (scales, cloud.constant)]
        index = [
            np.abs(part[..., None] - book).argmin(-1)
            for part, book in zip((scales, cloud.constant), books, strict=True)
        ]
        meta |= {"version": 2, "count": len(cloud)}
        meta["scales"] = {"codebook": books[0].tolist(), "files": ["scales.webp"]}
        meta["sh0"] = {"codebook": books[1].tolist(), "files": ["sh0.webp"]}
        files["scales.webp"] = picture(index[0])
        files["sh0.webp"] = picture(np.concatenate([index[1], _bytes(cloud.opacities)[:, None]], axis=1))
    else:
        values = np.concatenate([cloud.constant, logit(cloud.opacities)[:, None]], axis=1)
        meta["means"]["shape"] = [len(cloud), 3]
        for name, part in (("scales", scales), ("sh0", values)):
            meta[name] = {"mins": part.min(0).tolist(), "maxs": part.max(0).tolist(), "files": [f"{name}.webp"]}
            files[f"{name}.webp"] = picture(_bytes((part - part.min(0)) / np.ptp(part, axis=0)))
    if cloud.rest.shape[1]:
        # A palette entry for each splat, 64 side by side; two codes more than the splats, and in another order
        labels = np.arange(len(cloud))[::-1] + 2
        coefficients = cloud.rest.shape[1]
        book = np.linspace(-1, 1, 256)
        entries = np.zeros((-(-(len(cloud) + 2) // 64) * 64, coefficients, 3), np.int64)
        entries[labels] = np.abs(cloud.rest[..., None] - book).argmin(-1)
        meta["shN"] = {"files": ["shN_centroids.webp", "shN_labels.webp"]}
        meta["shN"] |= {"codebook": book.tolist()} if version == 2 else {"mins": -1.0, "maxs": 1.0}
        files["shN_centroids.webp"] = picture(entries.reshape(-1, 3), 64 * coefficients)
        files["shN_labels.webp"] = picture(np.stack([labels & 255, labels >> 8, labels * 0], axis=1))
    return {"meta.json": json.dumps(meta).encode(), **files}


def zip_of(files: dict[str, bytes], *, folder: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return buffer.getvalue()

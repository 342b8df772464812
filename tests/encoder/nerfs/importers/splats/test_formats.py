"""Every format of splats from bytes that are written here after its description."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gmn_encoder.nerfs.importers import import_field
from gmn_encoder.nerfs.importers.splats import read_splats, splatfacto_splats
from gmn_encoder.nerfs.importers.splats.record import UP_Y, UP_Y_DOWN, UP_Z

from . import writers
from .writers import C0, random_cloud


def read(tmp_path, name: str, content: bytes):
    file = tmp_path / name
    file.write_bytes(content)
    return read_splats(file)


def check(splats, cloud, *, means: float, shape: float, opacity: float, colour: float, rest: float = 0.0) -> None:
    """Tolerances: means and colours absolute; covariances out of their norm; the coefficients beyond degree 0 absolute."""
    assert len(splats) == len(cloud)
    np.testing.assert_allclose(splats.means, cloud.means, atol=means, rtol=0)
    error = np.linalg.norm(splats.covariances.numpy() - cloud.covariances, axis=(1, 2))
    assert (error / np.linalg.norm(cloud.covariances, axis=(1, 2))).max() <= shape
    np.testing.assert_allclose(splats.opacities, cloud.opacities, atol=opacity, rtol=0)
    np.testing.assert_allclose(splats.harmonics[:, 0] * C0, cloud.constant * C0, atol=colour, rtol=0)
    assert splats.harmonics.shape[1] == cloud.rest.shape[1] + 1
    np.testing.assert_allclose(splats.harmonics[:, 1:], cloud.rest, atol=rest, rtol=0)
    np.testing.assert_allclose(splats.rotations.norm(dim=1), np.ones(len(cloud)), atol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_original_ply(tmp_path, form, degree):
    cloud = random_cloud(degree=degree)
    splats = read(tmp_path, "a.ply", writers.write_ply(cloud, form))
    check(splats, cloud, means=1e-6, shape=1e-5, opacity=1e-6, colour=1e-6, rest=1e-6)
    assert splats.up == UP_Y_DOWN and splats.degree == degree


def test_ply_with_plain_colours_and_with_the_comment_of_nerfstudio(tmp_path):
    cloud = random_cloud()
    splats = read(tmp_path, "a.ply", writers.write_ply(cloud, rgb=True, comments=("Vertical Axis: z",)))
    check(splats, cloud, means=1e-6, shape=1e-5, opacity=1e-6, colour=1e-6)
    assert splats.up == UP_Z


def test_ply_of_disks_has_a_thin_third_axis(tmp_path):
    cloud = random_cloud()
    splats = read(tmp_path, "a.ply", writers.write_ply(cloud, scales=2))
    np.testing.assert_allclose(splats.scales[:, :2], cloud.scales[:, :2], rtol=1e-5)
    assert bool((splats.scales[:, 2] > 0).all() and (splats.scales[:, 2] <= 2e-3 * splats.scales.amax(dim=1)).all())
    assert "disks" in splats.notes[0]


def test_ply_keeps_what_stands_before_and_behind_the_vertices_apart(tmp_path):
    cloud = random_cloud(5)
    content = writers.write_ply(cloud)
    head, body = content.split(b"end_header\n", 1)
    head = head.replace(b"element vertex", b"element camera 2\nproperty double f\nelement vertex") + b"element face 1\n"
    head += b"property list uchar int vertex_indices\nend_header\n"
    splats = read(tmp_path, "a.ply", head + np.array([1.0, 2.0]).tobytes() + body + b"\x03" + bytes(12))
    check(splats, cloud, means=1e-6, shape=1e-5, opacity=1e-6, colour=1e-6)


def test_windows_line_ends_in_a_header(tmp_path):
    cloud = random_cloud(5)
    head, body = writers.write_ply(cloud).split(b"end_header\n", 1)
    splats = read(tmp_path, "a.ply", (head + b"end_header\n").replace(b"\n", b"\r\n") + body)
    check(splats, cloud, means=1e-6, shape=1e-5, opacity=1e-6, colour=1e-6)


@pytest.mark.parametrize("colour_limits", [True, False])
@pytest.mark.parametrize("degree", [0, 2])
def test_compressed_ply(tmp_path, colour_limits, degree):
    cloud = random_cloud(300, degree)  # two chunks
    splats = read(tmp_path, "a.ply", writers.write_compressed_ply(cloud, colour_limits=colour_limits))
    # 10 bits of a range of 2, and half a step; 10 bits of quaternions and of logarithms in a range of 3, 8 bits of colour
    check(splats, cloud, means=1.1e-3, shape=2e-2, opacity=2e-3, colour=2e-3, rest=0.016)


def test_splat(tmp_path):
    cloud = random_cloud()
    splats = read(tmp_path, "a.splat", writers.write_splat(cloud))
    check(splats, cloud, means=1e-6, shape=5e-2, opacity=2e-3, colour=2e-3)
    assert splats.up == UP_Y_DOWN


@pytest.mark.parametrize("sections", [1, 3])
def test_ksplat(tmp_path, sections):
    cloud = random_cloud()
    splats = read(tmp_path, "a.ksplat", writers.write_ksplat(cloud, sections=sections))
    check(splats, cloud, means=1e-6, shape=1e-5, opacity=2e-3, colour=2e-3)


def test_ksplat_with_harmonics_keeps_the_mean_colour_and_says_so(tmp_path):
    cloud = random_cloud(degree=1)
    splats = read(tmp_path, "a.ksplat", writers.write_ksplat(cloud))
    cloud.rest = cloud.rest[:, :0]
    check(splats, cloud, means=1e-6, shape=1e-5, opacity=2e-3, colour=2e-3)
    assert "depend on the direction" in splats.notes[0]


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_spz(tmp_path, version, degree):
    if version == 4:
        pytest.importorskip("zstandard")
    cloud = random_cloud(degree=degree)
    splats = read(tmp_path, "a.spz", writers.write_spz(cloud, version))
    # Half precision, or 12 binary places; logarithms of scales in steps of 1/16; quaternions of 9 bits a component, or of 8 and
    # without w, which the others leave uncertain where it is small
    means, shape = 5e-4 if version == 1 else 1.3e-4, 0.2 if version < 3 else 0.08
    check(splats, cloud, means=means, shape=shape, opacity=2e-3, colour=4e-3, rest=5e-3)
    assert splats.up == UP_Y


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("folder", [True, False])
def test_sog(tmp_path, version, degree, folder):
    cloud = random_cloud(150, degree=degree)
    files = writers.sog_files(cloud, version)
    if folder:
        place = tmp_path / "bundle"
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
    else:
        place = tmp_path / "a.sog"
        place.write_bytes(writers.zip_of(files, folder="inside/"))
    splats = read_splats(place)
    opacity = 2e-3 if version == 2 else 7e-3  # a byte of opacities, or of their logarithms in a range of 6
    check(splats, cloud, means=1e-4, shape=4e-2, opacity=opacity, colour=2e-3, rest=4.1e-3)


def splatfacto_pipeline(cloud) -> dict[str, torch.Tensor]:
    tensors = {
        "means": cloud.means,
        "scales": np.log(cloud.scales),
        "quats": 3 * cloud.rotations,
        "opacities": writers.logit(cloud.opacities)[:, None],
        "features_dc": cloud.constant,
        "features_rest": cloud.rest,
    }
    return {f"_model.gauss_params.{name}": torch.tensor(value) for name, value in tensors.items()}


def test_splatfacto():
    cloud = random_cloud(degree=3)
    pipeline = splatfacto_pipeline(cloud)
    splats = splatfacto_splats({**pipeline, "datamanager.anything": torch.zeros(1)})
    check(splats, cloud, means=1e-6, shape=1e-5, opacity=1e-6, colour=1e-6, rest=1e-6)
    assert splats.up == UP_Z
    del pipeline["_model.gauss_params.quats"]
    with pytest.raises(ValueError, match=r"gauss_params\.quats is missing"):
        splatfacto_splats(pipeline)


@pytest.mark.parametrize("place", ["", "run/nerfstudio_models"])
def test_a_splatfacto_checkpoint_and_its_run_folder(tmp_path, place):
    cloud = random_cloud(degree=1)
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "step-000000700.ckpt"
    torch.save({"step": 700, "pipeline": splatfacto_pipeline(cloud), "optimizers": {}}, file)
    field = import_field(tmp_path / "run" if place else file)
    assert field.kind == "nerfstudio splatfacto checkpoint" and field.sizes["step"] == 700
    assert field.sizes["splats"] == len(cloud) and field.up == UP_Z


def test_splats_that_are_not_finite_are_left_out(tmp_path):
    cloud = random_cloud()
    cloud.means[3] = np.nan
    cloud.scales[5] = 1e60
    with np.errstate(all="ignore"):
        content = writers.write_ply(cloud)
    splats = read(tmp_path, "a.ply", content)
    assert len(splats) == len(cloud) - 2
    assert splats.notes == ("left out 2 of 40 splats whose numbers are not finite",)
    cloud.means[:] = np.inf
    with pytest.raises(ValueError, match="none of its 40 splats has finite numbers"):
        read(tmp_path, "b.ply", writers.write_ply(cloud))

"""Checkpoints of the two programs called nerf-pytorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gmn_encoder.nerfs.importers import find_importer, import_field

from .files import FOREIGN, blob_checkpoint


@pytest.mark.skipif(not FOREIGN.is_dir(), reason="needs the files of other programs beside the checkout")
@pytest.mark.parametrize("scene", ["chair", "hotdog"])
def test_values_are_those_of_the_original_code(scene):
    directory = FOREIGN / "nerf_pytorch_krrish" / scene
    golden = np.load(directory / "golden.npz")
    field = import_field(next(directory.glob("*.ckpt")))
    rgb, density = field.query(torch.tensor(golden["xyz"]), torch.tensor(golden["dirs"]))
    np.testing.assert_allclose(rgb, golden["fine_rgb"], atol=1e-4)
    np.testing.assert_allclose(density[:, 0], golden["fine_density"], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not FOREIGN.is_dir(), reason="needs the files of other programs beside the checkout")
def test_a_view_is_the_original_codes():
    from gmn_encoder.fitting.distil_object import placed_query
    from gmn_encoder.fitting.placement import Placement
    from gmn_encoder.rendering.cameras import Rays
    from gmn_encoder.rendering.render import DirectedField, render_rays_front_to_back

    directory = FOREIGN / "nerf_pytorch_krrish" / "chair"
    golden = np.load(directory / "golden.npz")
    field = import_field(next(directory.glob("*.ckpt")))
    placement = Placement(center=(0.0, 0.0, 0.0), scale=0.35)
    rows, columns = torch.meshgrid(torch.arange(20, 44, 4), torch.arange(20, 44, 4), indexing="ij")
    pixel = torch.stack([(columns - 32) / 88.888885, -(rows - 32) / 88.888885, -torch.ones(rows.shape)], dim=-1)
    pose = torch.tensor(golden["c2w"])
    directions = F.normalize(pixel.reshape(-1, 3) @ pose[:3, :3].T, dim=-1)
    rays = Rays(placement.to_box(pose[:3, 3].expand_as(directions)).contiguous(), directions)
    query = DirectedField(placed_query(field, placement))
    seen = render_rays_front_to_back(query, rays, step=1.4 * 3**0.5 / 512).over(torch.ones(3)).colour
    truth = torch.tensor(golden["image"])[rows.flatten(), columns.flatten()]
    assert float((seen - truth).square().mean()) < 10**-2.8  # it draws samples elsewhere, and at random


def yenchenlin_state(*, width=16, layers=5, octaves=3, direction_octaves=2, views=True):
    """Weights as `run_nerf_helpers.NeRF` names them, with a skip after the third layer."""
    generator = torch.Generator().manual_seed(3)
    inputs, looks = 3 + 6 * octaves, 3 + 6 * direction_octaves
    shapes = {f"pts_linears.{n}": (width, inputs if n == 0 else width + inputs * (n == 3)) for n in range(layers)}
    shapes["views_linears.0"] = (width // 2, looks + width)
    if views:
        shapes |= {"feature_linear": (width, width), "alpha_linear": (1, width), "rgb_linear": (3, width // 2)}
    else:
        shapes["output_linear"] = (5, width)
    state = {}
    for name, (rows, columns) in shapes.items():
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) / columns**0.5
        state[f"{name}.bias"] = torch.randn(rows, generator=generator) * 0.3
    return state


def encoded(x, octaves):
    return torch.cat([x, *[wave(x * 2**k) for k in range(octaves) for wave in (torch.sin, torch.cos)]], dim=-1)


@pytest.mark.parametrize("views", [True, False])
def test_yenchenlins_network(tmp_path, views):
    state = yenchenlin_state(views=views)
    torch.save(
        {"global_step": 5, "network_fn_state_dict": {}, "network_fine_state_dict": state}, tmp_path / "000005.tar"
    )
    field = import_field(tmp_path / "000005.tar")
    points = torch.rand(40, 3) * 4 - 2
    looks = F.normalize(torch.randn(40, 3), dim=-1)

    def layer(name, values):
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    hidden = encoded(points, 3)
    for number in range(5):
        if number == 3:
            hidden = torch.cat([encoded(points, 3), hidden], dim=-1)
        hidden = layer(f"pts_linears.{number}", hidden).relu()
    if views:
        density = layer("alpha_linear", hidden).relu()
        values = torch.cat([layer("feature_linear", hidden), encoded(looks, 2)], dim=-1)
        colour = layer("rgb_linear", layer("views_linears.0", values).relu()).sigmoid()
    else:
        raw = layer("output_linear", hidden)
        colour, density = raw[:, :3].sigmoid(), raw[:, 3:4].relu()
    rgb, found = field.query(points, looks)
    torch.testing.assert_close(rgb, colour)
    torch.testing.assert_close(found, density)
    assert field.view_dependent == views and field.kind == "nerf-pytorch checkpoint (yenchenlin)"


def test_without_directions_colours_are_averaged_over_fixed_ones(tmp_path):
    field = import_field(blob_checkpoint(tmp_path / "a.ckpt"))
    points = torch.rand(10, 3)
    rgb, density = field.query(points)
    each = [field.query(points, direction)[0] for direction in field.averaged_directions]
    torch.testing.assert_close(rgb, torch.stack(each).mean(dim=0))
    assert bool((field.averaged_directions[:, 2] < 0).all())  # cameras above look down
    torch.testing.assert_close(density, field.query(points, torch.tensor([0.0, 0, -1]))[1])


def test_found_by_content(tmp_path):
    assert find_importer(blob_checkpoint(tmp_path / "blob.bin")).name == "nerf-pytorch"


def test_another_class_of_krrishs_is_refused_by_name(tmp_path):
    state = torch.load(blob_checkpoint(tmp_path / "a.ckpt"), weights_only=True)["model_fine_state_dict"]
    torch.save({"model_fine_state_dict": {**state, "layer3_1.weight": torch.zeros(2, 2)}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt: its network has the layer 'layer3_1\.weight'.*FlexibleNeRFModel"):
        import_field(tmp_path / "a.ckpt")


def test_scenes_in_normalised_device_coordinates_are_refused_with_the_reason(tmp_path):
    blob_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "fern-config.yml").write_text("dataset:\n  type: llff\n  no_ndc: false\n")
    with pytest.raises(ValueError, match=r"normalised device coordinates.*the settings beside it say so"):
        import_field(tmp_path / "a.ckpt")
    (tmp_path / "fern-config.yml").write_text("dataset:\n  type: llff\n  no_ndc: true\n")
    import_field(tmp_path / "a.ckpt")
    torch.save({"network_fine_state_dict": yenchenlin_state()}, tmp_path / "b.tar")
    (tmp_path / "args.txt").write_text("dataset_type = llff\nno_ndc = False\n")
    with pytest.raises(ValueError, match="normalised device coordinates"):
        import_field(tmp_path / "b.tar")


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    state = yenchenlin_state()
    for key, value, message in (
        ("rgb_linear.weight", torch.zeros(3, 5), "expected .3, 8."),
        ("pts_linears.2.weight", torch.zeros(16, 20), "layer 2 reads 20 values"),
        ("pts_linears.0.weight", torch.zeros(16, 20), "has 20 columns"),
        ("alpha_linear.bias", torch.full((1,), float("nan")), "NaN"),
    ):
        torch.save({"network_fine_state_dict": {**state, key: value}}, tmp_path / "b.tar")
        with pytest.raises(ValueError, match=message):
            import_field(tmp_path / "b.tar")

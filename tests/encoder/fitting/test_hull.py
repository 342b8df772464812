import torch

from gmn_encoder.fitting.hull import near_mask, visual_hull
from gmn_encoder.rendering.cameras import sphere
from gmn_encoder.rendering.voxels import voxel_centers


def test_near_mask_grows_by_its_radius_in_rows_and_columns():
    masks = torch.zeros(2, 9, 12, dtype=torch.bool)
    masks[0, 4, 5] = True
    for radius in (0, 1, 2, 3, 5, 20):
        grown = near_mask(masks, radius)
        rows, columns = (torch.arange(9)[:, None] - 4).abs(), (torch.arange(12) - 5).abs()
        assert torch.equal(grown[0], (rows <= radius) & (columns <= radius))
        assert not grown[1].any()


def _ball_masks(cameras, centre, radius):
    """Which pixels see a ball: their rays pass its centre closer than its radius."""
    masks = []
    for view in range(len(cameras)):
        rays = cameras.image_rays(view)
        along = ((centre - rays.origins) * rays.directions).sum(dim=1, keepdim=True)
        distance = (rays.origins + along * rays.directions - centre).norm(dim=1)
        masks.append((distance < radius).view(cameras.height, cameras.width))
    return torch.stack(masks)


def test_hull_holds_the_object_and_little_more():
    cameras, centre = sphere(24, size=96), torch.tensor([0.2, -0.1, 0.15])
    hull = visual_hull(_ball_masks(cameras, centre, 0.25), cameras, resolution=48).binary[0]
    distance = (voxel_centers(48) - centre).norm(dim=-1)
    assert hull[distance < 0.25].all()
    assert not hull[distance > 0.25 + 4 * 1.4 / 48].any()


def test_what_no_view_has_in_the_picture_is_kept():
    cameras = sphere(1, size=32)[[0]]
    hull = visual_hull(torch.zeros(1, 32, 32, dtype=torch.bool), cameras, resolution=16).binary[0]
    assert hull.any()
    assert not hull[8, 8, 8]

import pytest
import torch

from gmn_encoder import Nerf, load_nerf
from gmn_encoder.rendering.occupancy import (
    DENSITY_THRESHOLD,
    OccupancyGrid,
    nerf_occupancy,
    occupancy_from_density,
    read_occupancy,
    write_occupancy,
)
from gmn_encoder.rendering.voxels import voxel_centers

from .conftest import nerf_directory, some_grid


def test_released_grid_is_read_and_written_back_the_same(tmp_path):
    path = nerf_directory("mlp") / "grid.pth"
    grid = read_occupancy(path)
    released = torch.load(path, weights_only=True)
    assert torch.equal(grid.binary[0], released["_binary"].to_dense())
    write_occupancy(grid, tmp_path / "grid.pth")
    written = torch.load(tmp_path / "grid.pth", weights_only=True)
    assert set(written) == set(released)
    for key, tensor in released.items():
        assert (written[key].dtype, written[key].layout) == (tensor.dtype, tensor.layout)
        assert torch.equal(written[key].to_dense(), tensor.to_dense())
    write_occupancy(grid, tmp_path / "again" / "grid.pth")
    assert (tmp_path / "again" / "grid.pth").read_bytes() == (tmp_path / "grid.pth").read_bytes()
    assert 10 * (tmp_path / "grid.pth").stat().st_size < path.stat().st_size


def test_dense_grids_are_accepted(tmp_path):
    torch.save({"_binary": some_grid("ball", 8).binary[0]}, tmp_path / "grid.pth")
    assert torch.equal(read_occupancy(tmp_path / "grid.pth").binary, some_grid("ball", 8).binary)


def sparse(indices, size):
    values = torch.ones(len(indices), dtype=torch.bool)
    return torch.sparse_coo_tensor(torch.tensor(indices).T, values, size, check_invariants=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"occs": torch.zeros(3)}, "no '_binary' tensor; found 'occs'"),
        ({"_binary": torch.zeros(4, 4, dtype=torch.bool)}, "shape"),
        ({"_binary": torch.zeros(4, 4, 5, dtype=torch.bool)}, "shape"),
        ({"_binary": torch.zeros(4, 4, 4, dtype=torch.bool), "_roi_aabb": torch.ones(6)}, "box"),
        ({"_binary": sparse([[5, 0, 0]], (4, 4, 4))}, "outside|no torch.save file"),
    ],
)
def test_bad_grids_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "grid.pth")
    with pytest.raises(ValueError, match=message) as caught:
        read_occupancy(tmp_path / "grid.pth")
    assert str(caught.value).startswith(str(tmp_path / "grid.pth"))


def test_wrong_tensors_are_refused():
    with pytest.raises(ValueError, match=r"float32.*expected bool"):
        OccupancyGrid(torch.zeros(4, 4, 4))
    with pytest.raises(ValueError, match="do not stack"):
        OccupancyGrid.stack([some_grid("ball", 8), some_grid("ball", 9)])
    with pytest.raises(ValueError, match="one by one"):
        write_occupancy(OccupancyGrid.full(2), "grid.pth")


def test_dilation_adds_neighbours_only():
    binary = torch.zeros(7, 7, 7, dtype=torch.bool)
    binary[3, 3, 0] = True
    dilated = OccupancyGrid(binary).dilated().binary[0]
    expected = torch.zeros_like(binary)
    expected[2:5, 2:5, :2] = True
    assert torch.equal(dilated, expected)
    assert bool(OccupancyGrid(binary).dilated(6).binary.all())


@pytest.mark.parametrize("kind", ["ball", "dust"])
def test_clearance_never_exceeds_the_distance_to_the_next_occupied_voxel(kind):
    grid = OccupancyGrid.stack([some_grid(kind, 24, seed) for seed in (0, 3)])
    for binary, clearance in zip(grid.binary, grid.clearance.int(), strict=True):
        voxels = torch.stack(torch.meshgrid(*[torch.arange(24)] * 3, indexing="ij"), dim=-1).view(-1, 3)
        occupied = voxels[binary.flatten()]
        distance = torch.cat([(part[:, None] - occupied).abs().amax(-1).amin(1) for part in voxels.split(512)])
        clearance = clearance.flatten()
        assert bool((clearance <= distance).all())
        # The bound is the largest of 0, 1, 2, 3, 4, 5, 9, 17 that holds.
        steps = torch.tensor([0, 1, 2, 3, 4, 5, 9, 17])
        assert torch.equal(clearance.long(), steps[torch.searchsorted(steps, distance, right=True) - 1])


def test_occupancy_from_density_finds_a_ball():
    def density(xyz):
        return (xyz.norm(dim=-1) < 0.4) * 2 * DENSITY_THRESHOLD

    inside = voxel_centers(32).norm(dim=-1) < 0.4
    assert torch.equal(occupancy_from_density(density, resolution=32, dilation=0).binary[0], inside)
    assert torch.equal(occupancy_from_density(density, resolution=32).binary, OccupancyGrid(inside).dilated().binary)
    assert not bool(occupancy_from_density(lambda xyz: density(xyz) / 3, resolution=32).binary.any())
    more = occupancy_from_density(density, resolution=32, dilation=0, points=4, generator=torch.Generator())
    assert bool((more.binary[0] & ~inside).any()) and bool(more.binary[0][inside].all())


def test_occupancy_of_several_fields_at_once():
    def density(xyz):
        return torch.stack([(xyz[:, 0] > 0) * 10.0, (xyz[:, 1] > 0) * 10.0])

    steps = []
    grid = occupancy_from_density(
        density, resolution=16, dilation=0, progress=lambda stage, done, total: steps.append((done, total))
    )
    assert len(grid) == 2 and steps[-1] == (16**3, 16**3)
    assert not bool(grid.binary[0, :8].any()) and bool(grid.binary[0, 8:].all()) and bool(grid.binary[1, :, 8:].all())


def test_occupancy_of_a_nerf_holds_all_its_dense_points():
    nerf = load_nerf(nerf_directory("mlp"))
    nerf = Nerf(nerf.architecture, {key: tensor * 3 for key, tensor in nerf.tensors.items()})
    grid = nerf_occupancy(nerf)
    assert 0.05 < float(grid.binary.float().mean()) < 0.999
    centres = voxel_centers().view(-1, 3)[::997]
    dense = nerf.query(centres)[1][:, 0] > DENSITY_THRESHOLD
    assert bool(grid.binary.flatten()[::997][dense].all()) and bool(dense.any())

import dataclasses

import pytest
import torch

from gmn_encoder.fitting.measure import held_out_psnr
from gmn_encoder.fitting.photometric import PhotometricFit
from gmn_encoder.nerfs.architectures import PAPER_ARCHITECTURES

HASH = PAPER_ARCHITECTURES["HASH"]


def _run(trainer, iterations=None):
    while not trainer.done and (iterations is None or trainer.iteration < iterations):
        trainer.step()
    return trainer


def _psnr(trainer, posed):
    found, views = held_out_psnr(trainer.nerf(0), trainer.grids()[0], posed.held_out, posed.held_out_cameras)
    assert views.shape == (*posed.held_out.shape[:3], 3)
    return sum(found) / len(found)


@pytest.mark.parametrize(("name", "gain"), [("HASH", 4), ("MLP", 4), ("TRI", 4)])
def test_psnr_rises_on_views_it_never_saw(posed, tiny, name, gain):
    from gmn_encoder.fitting.presets import preset

    architecture = PAPER_ARCHITECTURES[name]
    rates = preset("quick", architecture.family)
    settings = dataclasses.replace(
        tiny,
        iterations=50,
        samples=2048,
        refine_every=20,
        learning_rate=rates.learning_rate,
        encoding_rate=rates.encoding_rate,
    )
    trainer = PhotometricFit(architecture, [posed], settings, seeds=[0])
    before = _psnr(trainer, posed)
    after = _psnr(_run(trainer), posed)
    assert after > before + gain


@pytest.mark.parametrize("name", ["HASH", "TRI"])
def test_same_seed_same_weights(posed, tiny, name):
    runs = [_run(PhotometricFit(PAPER_ARCHITECTURES[name], [posed], tiny, seeds=[seed])) for seed in (3, 3, 4)]
    first, second, other = (run.nerf(0).tensors for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)
    assert torch.equal(runs[0].grids()[0].binary, runs[1].grids()[0].binary)


@pytest.mark.parametrize("name", ["HASH", "TRI"])
def test_resumed_equals_uninterrupted(posed, other_posed, tiny, name, tmp_path):
    from gmn_encoder.files import read_tensors, write_pth_content

    def make():
        return PhotometricFit(PAPER_ARCHITECTURES[name], [posed, other_posed], tiny, seeds=[1, 2])

    whole = _run(make())
    half = _run(make(), 8)  # between two looks at the density
    write_pth_content(half.state_dict(), tmp_path / "state.pth")
    resumed = make()
    resumed.load_state_dict(read_tensors(tmp_path / "state.pth")[0])
    _run(resumed)
    for number in range(2):
        expected, found = whole.nerf(number).tensors, resumed.nerf(number).tensors
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("name", ["MLP", "HASH", "TRI"])
def test_one_of_a_batch_equals_one_alone(posed, other_posed, tiny, name):
    settings = dataclasses.replace(tiny, iterations=8)  # rounding grows with every step
    together = _run(PhotometricFit(PAPER_ARCHITECTURES[name], [other_posed, posed], settings, seeds=[8, 9]))
    alone = _run(PhotometricFit(PAPER_ARCHITECTURES[name], [posed], settings, seeds=[9]))
    start = PhotometricFit(PAPER_ARCHITECTURES[name], [posed], settings, seeds=[9]).nerf(0).tensors
    for key, expected in alone.nerf(0).tensors.items():
        found = together.nerf(1).tensors[key]
        moved = (expected - start[key]).norm()
        assert moved > 0
        assert (found - expected).norm() < 0.02 * moved


def test_shared_initialisation_is_the_same_start(posed, other_posed, tiny):
    trainer = PhotometricFit(HASH, [posed, other_posed], tiny, seeds=[1, 2], initial_seeds=[5, 5])
    first, second = trainer.nerfs()
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)
    _run(trainer, 2)
    first, second = trainer.nerfs()
    assert not any(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_untrained_octaves_stay_zero(posed, tiny):
    nerf = _run(
        PhotometricFit(PAPER_ARCHITECTURES["MLP"], [posed], dataclasses.replace(tiny, frequencies=5), seeds=[0])
    ).nerf(0)
    waves = nerf.tensors["mlp_base.params"][: 64 * 144].view(64, 3, 24, 2)
    assert (waves[:, :, 5:] == 0).all()
    assert (waves[:, :, :5] != 0).all()


def test_grid_lies_in_the_hull_and_holds_the_object(posed, tiny):
    trainer = _run(
        PhotometricFit(
            HASH, [posed], dataclasses.replace(tiny, iterations=40, samples=2048, refine_every=20), seeds=[0]
        )
    )
    grid = trainer.grids()[0].binary
    assert not (grid & ~trainer.hull.binary).any()
    assert 0 < int(grid.sum()) <= int(trainer.hull.binary.sum())
    assert int(trainer.occupied.binary.sum()) < int(trainer.hull.binary.sum())


def test_numbers_of_seeds_and_sizes_of_images_are_checked(posed, tiny):
    with pytest.raises(ValueError, match="1 objects and 2 seeds"):
        PhotometricFit(HASH, [posed], tiny, seeds=[1, 2])
    with pytest.raises(ValueError, match="0 objects"):
        PhotometricFit(HASH, [], tiny, seeds=[])


def test_without_held_out_views_nothing_is_measured(posed):
    from gmn_encoder import Nerf
    from gmn_encoder.rendering.occupancy import OccupancyGrid

    found, views = held_out_psnr(
        Nerf.random("HASH"), OccupancyGrid.full(), posed.held_out[:0], posed.held_out_cameras[:0]
    )
    assert found == [] and views.shape == (0, 32, 32, 3)

"""Runs of nerfstudio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gmn_encoder.nerfs.importers import find_importer, import_field

from .files import FOREIGN, grid_numbers, harmonics, network, tcnn_level_list

LEVELS, TABLE, FINEST = 3, 8, 40


@pytest.mark.skipif(not FOREIGN.is_dir(), reason="needs the files of other programs beside the checkout")
def test_values_are_those_of_nerfstudio_itself():
    golden = np.load(FOREIGN / "nerfacto" / "golden.npz")
    field = import_field(FOREIGN / "nerfacto" / "step-000000400.ckpt")
    rgb, density = field.query(torch.tensor(golden["xyz"]), torch.tensor(golden["dirs"]))
    np.testing.assert_allclose(rgb, golden["rgb"], atol=1e-4)
    np.testing.assert_allclose(density, golden["density"], rtol=1e-4, atol=1e-4)


def tcnn_pipeline(*, appearance=True, older=False):
    """A field as tiny-cuda-nn stores it: in each flat tensor matrices first, then the grid."""
    generator = np.random.default_rng(5)
    levels = tcnn_level_list(LEVELS, 16, (FINEST / 16) ** (1 / (LEVELS - 1)), TABLE)
    table = generator.normal(size=(sum(entries for _, entries in levels), 2)).astype(np.float32)
    base = [generator.normal(size=shape).astype(np.float32) * 0.4 for shape in ((64, 16), (16, 64))]
    inputs = 64 if appearance else 32
    head = [generator.normal(size=shape).astype(np.float32) * 0.3 for shape in ((64, inputs), (64, 64), (16, 64))]
    flat_base = np.concatenate([*(matrix.ravel() for matrix in base), table.ravel()])
    flat_head = np.concatenate([matrix.ravel() for matrix in head])
    embeddings = generator.normal(size=(4, 32)).astype(np.float32)
    names = (
        ("mlp_base.params", "mlp_head.params") if older else ("mlp_base.model.params", "mlp_head.tcnn_encoding.params")
    )
    pipeline = {
        "_model.field.aabb": torch.tensor([[-1.0] * 3, [1.0] * 3]),
        "_model.field.max_res": torch.tensor(FINEST),
        "_model.field.num_levels": torch.tensor(LEVELS),
        "_model.field.log2_hashmap_size": torch.tensor(TABLE),
        f"_model.field.{names[0]}": torch.from_numpy(flat_base),
        f"_model.field.{names[1]}": torch.from_numpy(flat_head),
        "_model.field.direction_encoding.tcnn_encoding.params": torch.zeros(0),
        "_model.proposal_networks.0.aabb": torch.zeros(2, 3),
        "datamanager.x": torch.zeros(1),
    }
    if appearance:
        pipeline["_model.field.embedding_appearance.embedding.weight"] = torch.from_numpy(embeddings)
    return pipeline, (levels, table, base, head, embeddings.mean(axis=0) if appearance else np.zeros(0))


def expected(parts, point, look, *, contracted=True, initial=0.01):
    levels, table, base, head, appearance = parts
    reach = max(abs(x) for x in point)
    bent = [(2 - 1 / reach) * x / reach for x in point] if reach > 1 and contracted else point
    u = [(x + 2) / 4 if contracted else (x + 1) / 2 for x in bent]
    raw = network(grid_numbers(levels, table, 2, u), base)
    colour = network([*harmonics(look), *raw[1:16], *appearance], head)[:3]
    return 1 / (1 + np.exp(-colour)), initial * math.exp(raw[0])


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("appearance", [False, True])
def test_tcnn_weights(tmp_path, appearance, older):
    pipeline, parts = tcnn_pipeline(appearance=appearance, older=older)
    torch.save({"step": 9, "pipeline": pipeline}, tmp_path / "a.ckpt")
    field = import_field(tmp_path / "a.ckpt")
    points = torch.rand(20, 3) * 4 - 2
    looks = F.normalize(torch.randn(20, 3), dim=-1)
    rgb, density = field.query(points, looks)
    for number in range(20):
        colour, dense = expected(parts, points[number].double().tolist(), looks[number].double().tolist())
        np.testing.assert_allclose(rgb[number], colour, atol=1e-4)
        assert float(density[number]) == pytest.approx(dense, rel=1e-4)
    assert field.kind == "nerfstudio nerfacto checkpoint (tcnn)" and not field.bounded
    assert any("average_init_density" in note for note in field.notes)


def run_folder(tmp_path, pipeline, model=""):
    folder = tmp_path / "run" / "nerfstudio_models"
    folder.mkdir(parents=True)
    torch.save({"step": 1, "pipeline": {}}, folder / "step-000000001.ckpt")
    torch.save({"step": 9, "pipeline": pipeline}, folder / "step-000000009.ckpt")
    (tmp_path / "run" / "config.yml").write_text(
        "!!python/object:nerfstudio.engine.trainer.TrainerConfig\n"
        "method_name: nerfacto\n"
        "where: !!python/object/apply:pathlib.PosixPath\n- outputs\n"
        "evil: !!python/object/apply:os.system\n- touch " + str(tmp_path / "ran") + "\n"
        "pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig\n"
        "  model: !!python/object:nerfstudio.models.nerfacto.NerfactoModelConfig\n"
        "    base_res: 16\n" + model
    )
    (tmp_path / "run" / "dataparser_transforms.json").write_text('{"transform": [[1,0,0,2]], "scale": 0.5}')
    return tmp_path / "run"


def test_a_run_folder_is_read_by_its_settings_of_which_nothing_is_run(tmp_path):
    pipeline, parts = tcnn_pipeline()
    model = "    average_init_density: 0.5\n    disable_scene_contraction: true\n"
    run = run_folder(tmp_path, pipeline, model)
    assert find_importer(run).name == "nerfstudio"
    field = import_field(run)
    point, look = [0.3, -0.4, 0.2], [0.0, 0.6, -0.8]
    colour, dense = expected(parts, point, look, contracted=False, initial=0.5)
    rgb, density = field.query(torch.tensor(point), torch.tensor(look))
    np.testing.assert_allclose(rgb, colour, atol=1e-4)
    assert float(density) == pytest.approx(dense, rel=1e-4)
    assert float(field.query(torch.tensor([1.01, 0, 0]))[1]) == 0 and field.bounded
    assert field.describe()["sizes"]["dataparser"] == {"transform": [[1, 0, 0, 2]], "scale": 0.5}
    assert not (tmp_path / "ran").exists()


def test_embeddings_of_images_may_stand_as_zeros(tmp_path):
    pipeline, (*parts, mean) = tcnn_pipeline()
    field = import_field(run_folder(tmp_path, pipeline, "    use_average_appearance_embedding: false\n"))
    point, look = [0.3, -0.4, 0.2], [0.0, 0.6, -0.8]
    colour, _ = expected((*parts, mean * 0), point, look)
    np.testing.assert_allclose(field.query(torch.tensor(point), torch.tensor(look))[0], colour, atol=1e-4)


def test_instant_ngp_of_nerfstudio_marches_by_its_occupancy(tmp_path):
    pipeline, _ = tcnn_pipeline(appearance=False)
    binaries = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    binaries[0, 3, 0, 1] = binaries[1, 3, 3, 3] = True
    box = torch.tensor([-1.0] * 3 + [1.0] * 3)
    pipeline |= {
        "_model.occupancy_grid.binaries": binaries,
        "_model.occupancy_grid.aabbs": torch.stack([box, 2 * box]),
        "_model.occupancy_grid.resolution": torch.tensor([4, 4, 4]),
    }
    torch.save({"pipeline": pipeline}, tmp_path / "a.ckpt")
    field = import_field(tmp_path / "a.ckpt")
    points = torch.tensor([[0.7, -0.8, -0.3], [0.7, -0.8, 0.3], [1.5, 1.5, 1.5], [1.5, 1.5, -1.5]])
    assert (field.query(points)[1][:, 0] > 0).tolist() == [True, False, True, False]
    assert field.initial_density == 1.0 and "instant-ngp" in field.kind


def test_another_method_is_refused_by_name(tmp_path):
    torch.save({"pipeline": {"_model.field_coarse.mlp.weight": torch.zeros(2)}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt: its field has no hash grid.*expected nerfacto or instant-ngp"):
        import_field(tmp_path / "a.ckpt")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    pipeline, _ = tcnn_pipeline()
    key = "_model.field.mlp_base.model.params"
    for changes, message in (
        ({key: pipeline[key][:-7]}, "no usual width"),
        ({key: pipeline[key][:100]}, "expected more than the"),
        ({"_model.field.num_levels": torch.tensor(0)}, "num_levels of its hash grid is 0"),
        ({"_model.field.log2_hashmap_size": torch.tensor(60)}, "log2_hashmap_size of its hash grid is 60"),
    ):
        torch.save({"pipeline": {**pipeline, **changes}}, tmp_path / "a.ckpt")
        with pytest.raises(ValueError, match=message):
            import_field(tmp_path / "a.ckpt")

"""Runs that nerfstudio itself makes, with random weights, and what its own code says at points.

`test_nerfstudio_itself` starts it in an environment that has nerfstudio and not this package: python nerfstudio_runs.py FOLDER

For each case FOLDER/<case>/run is a run folder (config.yml, dataparser_transforms.json, nerfstudio_models/step-*.ckpt) and
FOLDER/<case>/values.npz has `xyz`, `directions`, `rgb` and `density`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

POINTS = 400


NOT_NEEDED = ("viser", "torchvision", "newrawpy", "gsplat", "pymeshlab", "open3d", "nerfstudio.viewer")
"""Modules that nerfstudio imports for its viewer, raw images and meshes: they are not installed, or do not import here."""


class Nothing(types.ModuleType):
    """A module in which every name is an empty class."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class NothingFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name.startswith(tuple(f"{each}." for each in NOT_NEEDED)) or name in NOT_NEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Nothing(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def prepare() -> None:
    """Let nerfstudio be imported without what is not needed, and without the weights that one of its metrics fetches."""
    import torchmetrics.image.lpip

    sys.meta_path.insert(0, NothingFinder())

    class NoMetric(torch.nn.Module):
        def __init__(self, **_: object) -> None:
            super().__init__()

    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = NoMetric


def cases() -> dict:
    """Name -> (method, the configuration of a model)."""
    from nerfstudio.models.instant_ngp import InstantNGPModelConfig
    from nerfstudio.models.nerfacto import NerfactoModelConfig

    def nerfacto(**options: object) -> tuple:
        sizes = {"num_levels": 5, "max_res": 96, "log2_hashmap_size": 11, "implementation": "torch"}
        return "nerfacto", NerfactoModelConfig(**{**sizes, "average_init_density": 0.01, **options})

    def ngp(**options: object) -> tuple:
        sizes = {"max_res": 64, "log2_hashmap_size": 10, "grid_resolution": 8, "grid_levels": 2}
        return "instant-ngp", InstantNGPModelConfig(**{**sizes, **options})

    return {
        "nerfacto": nerfacto(),
        "nerfacto-other-sizes": nerfacto(hidden_dim=32, hidden_dim_color=48, features_per_level=4, base_res=8),
        "nerfacto-in-its-box": nerfacto(disable_scene_contraction=True, average_init_density=1.0),
        "nerfacto-without-mean": nerfacto(use_average_appearance_embedding=False),
        "instant-ngp": ngp(),
        "instant-ngp-in-its-box": ngp(disable_scene_contraction=True, use_appearance_embedding=True),
    }


def values(model: torch.nn.Module, xyz: torch.Tensor, directions: torch.Tensor) -> dict[str, np.ndarray]:
    """Colours and densities of a model's field by nerfstudio's own code."""
    from nerfstudio.cameras.rays import Frustums, RaySamples

    nothing = torch.zeros(len(xyz), 1)
    frustums = Frustums(xyz, directions, starts=nothing, ends=nothing, pixel_area=nothing)
    samples = RaySamples(frustums, camera_indices=torch.zeros(len(xyz), 1, dtype=torch.long))
    found = {key.value: value for key, value in model.field(samples).items()}
    density = found["density"]
    if hasattr(model, "occupancy_grid"):
        from nerfacc.grid import _query

        grid = model.occupancy_grid
        density = density * _query(xyz, grid.binaries, grid.aabbs[0])[0][:, None]
    return {"rgb": found["rgb"].numpy(), "density": density.numpy()}


@torch.no_grad()
def write_case(folder: Path, method: str, config: object, seed: int) -> None:
    import yaml
    from nerfstudio.data.scene_box import SceneBox
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

    torch.manual_seed(seed)
    box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    model = config.setup(scene_box=SceneBox(aabb=box), num_train_data=5).eval()
    for name, parameter in model.field.named_parameters():  # fresh ones give nearly one colour, which would say nothing
        if "hash_table" in name:
            parameter.normal_()
        elif "mlp_" in name and name.endswith(".weight"):
            parameter.mul_(2.5)
    if hasattr(model, "occupancy_grid"):
        model.occupancy_grid.binaries.copy_(torch.rand(model.occupancy_grid.binaries.shape) < 0.6)
    checkpoints = folder / "run" / "nerfstudio_models"
    checkpoints.mkdir(parents=True)
    run = TrainerConfig(method_name=method, pipeline=VanillaPipelineConfig(model=config))
    (folder / "run" / "config.yml").write_text(yaml.dump(run))
    transforms = {"transform": torch.eye(4)[:3].tolist(), "scale": 0.5}
    (folder / "run" / "dataparser_transforms.json").write_text(json.dumps(transforms))
    state = {f"_model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"step": 9, "pipeline": state, "optimizers": {}, "scalers": {}}, checkpoints / "step-000000009.ckpt")
    inner, outer = torch.rand(POINTS // 2, 3) * 2 - 1, torch.randn(POINTS // 2, 3) * 2
    xyz = torch.cat([inner, outer])
    directions = torch.nn.functional.normalize(torch.randn(POINTS, 3), dim=-1)
    found = values(model, xyz, directions)
    np.savez(folder / "values.npz", xyz=xyz.numpy(), directions=directions.numpy(), **found)


def main() -> None:
    prepare()
    for seed, (name, (method, config)) in enumerate(cases().items()):
        write_case(Path(sys.argv[1], name), method, config, seed)


if __name__ == "__main__":
    main()

"""The importer against nerfstudio itself, in an environment of its own: runs made by its classes, evaluated by its code.

``LLANA_GMN_NERFSTUDIO`` names the Python of an environment that has it; else one is made in pytest's cache, once, which takes
some minutes and a package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

from gmn_encoder.nerfs.importers import import_field

from . import nerfstudio_runs

PACKAGES = ("nerfstudio==1.1.5", "nerfacc==0.5.2")
"""Installed without what they require, most of which is for viewers and data sets."""
NEEDED = (
    *("torch", "numpy", "tyro", "jaxtyping", "rich", "torchmetrics", "opencv-python-headless", "imageio", "mediapy"),
    *("msgpack-numpy", "h5py", "matplotlib", "tensorboard", "pytorch-msssim", "pyquaternion", "splines", "appdirs"),
    *("pyyaml", "requests", "tensorly"),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """The folder that `nerfstudio_runs` writes."""
    python = os.environ.get("LLANA_GMN_NERFSTUDIO") or _environment(Path(request.config.cache.mkdir("nerfstudio")))
    folder = tmp_path_factory.mktemp("nerfstudio")
    done = subprocess.run([python, nerfstudio_runs.__file__, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def _environment(folder: Path) -> str:
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        for what in (("--no-deps", *PACKAGES), (f"torch=={torch.__version__.partition('+')[0]}", *NEEDED[1:])):
            done = subprocess.run([python, "-m", "pip", "install", "--quiet", *what], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"nerfstudio cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        (folder / "ready").touch()
    return str(python)


CASES = {  # name -> kind, whether its space is bent
    "nerfacto": ("nerfacto", True),
    "nerfacto-other-sizes": ("nerfacto", True),
    "nerfacto-in-its-box": ("nerfacto", False),
    "nerfacto-without-mean": ("nerfacto", True),
    "instant-ngp": ("instant-ngp", True),
    "instant-ngp-in-its-box": ("instant-ngp", False),
}


@pytest.mark.skipif(sys.platform == "win32", reason="environments are laid out otherwise there")
@pytest.mark.parametrize("name", CASES)
def test_colours_and_densities_are_those_of_nerfstudio(runs, name):
    field, found = import_field(runs / name / "run"), np.load(runs / name / "values.npz")
    kind, bent = CASES[name]
    assert field.kind == f"nerfstudio {kind} checkpoint (torch)" and field.bounded == (not bent)
    assert field.describe()["sizes"]["dataparser"]["scale"] == 0.5
    rgb, density = field.query(torch.from_numpy(found["xyz"]), torch.from_numpy(found["directions"]))
    there = found["density"][:, 0] > 0
    assert there.mean() > 0.1 and np.ptp(found["rgb"][there]) > 0.2  # they say something
    np.testing.assert_allclose(density, found["density"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rgb[there], found["rgb"][there], atol=1e-4)

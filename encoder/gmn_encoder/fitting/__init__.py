"""Fitting: NeRFs from images, meshes and procedural objects, many at once, by photometric training through the renderer.

`sources.py` makes posed images, `hull.py` the space they leave to an object, `presets.py` the settings, `field.py` the NeRFs
while they are trained, `trainer.py` the training, `output.py` what stands on disk, `job.py` a whole run,
`single.py` one object that a user brings.
"""

from .presets import PRESETS, FitSettings, preset
from .single import fit_object
from .sources import PosedImages, find_sources
from .trainer import Trainer

__all__ = ["PRESETS", "FitSettings", "PosedImages", "Trainer", "find_sources", "fit_object", "preset"]

"""Fitting: NeRFs from images, meshes and procedural objects, many at once, by photometric training through the renderer.

`sources.py` makes posed images, `hull.py` the space they leave to an object, `presets.py` the settings, `field.py` the NeRFs
while they are trained, `training_views.py` the rays they are shown, `photometric.py` the fit, `measure.py` its quality,
`output.py` what stands on disk, `job.py` a whole run, `single.py` one object that a user brings.
"""

from .photometric import PhotometricFit
from .posed_images import PosedImages
from .presets import PRESETS, FitSettings, preset
from .single import fit_object
from .sources import find_sources

__all__ = ["PRESETS", "FitSettings", "PhotometricFit", "PosedImages", "find_sources", "fit_object", "preset"]

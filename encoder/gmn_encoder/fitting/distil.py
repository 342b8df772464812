"""Foreign fields as sources of fits: posed images of the object in them.

A field is rendered by its own densities and colours from cameras where its training's may have stood, through what is seen of it
alone (`distil_object`). The fit to these images is the one that images, meshes and procedural objects have: what colours do with
the direction is averaged by the views that show it, weighted by what they see.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..files import StrPath
from ..nerfs.fields import BOX_MAX
from ..nerfs.importers import ForeignField, import_field
from ..objects import ViewSettings
from ..progress import Progress, no_progress
from ..rendering.cameras import DEFAULT_DISTANCE, RELEASED_ANGLE_X, Cameras
from ..rendering.marching import step_length
from ..rendering.render import DirectedField, render_views
from ..rendering.voxels import numbers_at
from .distil_object import FIRST_SLAB, FoundObject, find_object, placed_query, plausible_cameras
from .placement import PlacementRequest
from .posed_images import HELD_OUT_SEED, HELD_OUT_VIEWS, PosedImages

_STEPS = 512  # in the diagonal of the box


def read_foreign(
    path: StrPath,
    class_id: str,
    nerf_id: str,
    *,
    settings: ViewSettings | None = None,
    placement: PlacementRequest | None = None,
    device: torch.device | str | None = None,
    progress: Progress = no_progress,
) -> PosedImages:
    """Views of a foreign field, its object found and brought into the box.

    Args:
        path: what `import_field` reads.
        class_id, nerf_id: directory names of the output.
        settings: number, size and seed of the views.
        placement: what the user says about where the object is.
        device: where the field is queried; the default device if left out.
        progress: receives points, views and rays done and all.

    Raises:
        What `import_field` and `find_object` raise.
    """
    settings = settings or ViewSettings()
    field = import_field(path).to(torch.empty(0, device=device).device)
    found = find_object(field, placement, progress=progress)
    images, cameras = take_views(field, found, settings, progress=progress)
    held_settings = ViewSettings(n_views=HELD_OUT_VIEWS, size=settings.size, seed=settings.seed + HELD_OUT_SEED)
    held, held_cameras = take_views(field, found, held_settings, progress=progress)
    notes = [*field.notes, *found.notes]
    if field.view_dependent:
        notes.append("its colours depend on where one looks from: views are averaged")
    return PosedImages(
        class_id,
        nerf_id,
        str(path),
        images,
        cameras,
        held,
        held_cameras,
        notes=tuple(notes),
        placement=found.placement,
        region=found.solid.to("cpu"),
    )


def take_views(
    field: ForeignField, found: FoundObject, settings: ViewSettings, *, progress: Progress = no_progress
) -> tuple[Tensor, Cameras]:
    """Images uint8 ``(V, size, size, 4)`` with straight opacity, and their cameras in the world of the box, on the CPU."""
    cameras = plausible_cameras(
        field,
        settings.n_views,
        distance=DEFAULT_DISTANCE,
        size=settings.size,
        seed=settings.seed,
        angle=RELEASED_ANGLE_X,
    )
    images = render_placed(field, found, cameras, progress=progress)
    names = tuple(f"train/{number:02d}" for number in range(len(cameras)))
    return images, dataclasses.replace(cameras, image_names=names)


@torch.no_grad()
def render_placed(
    field: ForeignField, found: FoundObject, cameras: Cameras, *, progress: Progress = no_progress
) -> Tensor:
    """A field by its own rule from cameras in the box's world: uint8 ``(V, height, width, 4)``, straight opacity, on the CPU."""
    own = _own_images(field, found, cameras, progress)
    if own is None:
        step = step_length(_STEPS)
        if field.step is not None:
            step = max(step_length(2 * _STEPS), min(step, field.step * found.placement.scale))
        seen = render_views(
            DirectedField(placed_query(field, found.placement)),
            cameras.to(field.device),
            found.seen,
            step=step,
            first_slab=FIRST_SLAB,
            progress=progress,
        )
        own = torch.cat([seen.colour, seen.opacity[..., None]], dim=-1)
    colour = own[..., :3] / own[..., 3:].clamp(min=1e-6)
    straight = torch.cat([colour, own[..., 3:]], dim=-1)
    return straight.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def _own_images(field: ForeignField, found: FoundObject, cameras: Cameras, progress: Progress) -> Tensor | None:
    """The pictures of a field that has a rule of its own, ``(V, height, width, 4)`` multiplied by opacity, or None."""
    placement = found.placement
    object_ = found.solid.dilated(1)

    def keep(xyz: Tensor) -> Tensor:
        placed = placement.to_box(xyz)
        inside = (placed.abs() < BOX_MAX).all(dim=-1)
        return inside & object_.binary.flatten()[numbers_at(placed, object_.resolution)]

    field, pictures = field.within(keep), []
    for view in range(len(cameras)):
        pose = cameras.camera_to_world[view].clone()
        pose[:3, :3] = placement.turn.to(pose).T @ pose[:3, :3]
        pose[:3, 3] = placement.to_source(cameras.camera_to_world[view, :3, 3])
        size = (cameras.width, cameras.height)
        lens = (cameras.focal[view].to(field.device), cameras.principal_point[view].to(field.device))
        picture = field.image(pose.to(field.device), *lens, *size)
        if picture is None:
            return None
        pictures.append(picture)
        progress("rendering views", view + 1, len(cameras))
    return torch.stack(pictures)

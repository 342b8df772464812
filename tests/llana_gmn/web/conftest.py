"""A gallery of two objects in three families, and a service with the tiny model."""

from __future__ import annotations

import pytest
import torch

from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.rendering.occupancy import OccupancyGrid, write_occupancy
from llana_gmn.web.state import Service, ServiceOptions

FAMILIES = {"mlp": "MLP-nano", "triplane": "TRI-nano", "hash": "HASH-nano"}
CHAIR, CAR = ("03001627", "chair-1"), ("02958343", "car-1")


@pytest.fixture(scope="session", autouse=True)
def _small_pictures():
    """Random NeRFs fill the whole box: look for them, and bake them, on coarser grids than users get."""
    from gmn_encoder.rendering import occupancy

    search = occupancy.occupancy_from_density
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            occupancy, "occupancy_from_density", lambda density, **k: search(density, **{**k, "resolution": 24})
        )
        patch.setattr("llana_gmn.web.pictures.VOXELS", 32)
        patch.setattr("llana_gmn.web.pictures.STILL_SIZE", 48)
        patch.setattr("llana_gmn.web.pictures.TURN_SIZE", 48)
        yield


@pytest.fixture(scope="session")
def gallery_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("nerfs")
    binary = torch.zeros(96, 96, 96, dtype=torch.bool)
    binary[40:56, 40:56, 40:56] = True  # a small box: rendering takes no time
    for number, object_id in enumerate((CHAIR, CAR)):
        for family, name in FAMILIES.items():
            directory = path / family / object_id[0] / object_id[1]
            save_nerf(Nerf.random(name, seed=number), directory)
            write_occupancy(OccupancyGrid(binary), directory / "grid.pth")
    return path


@pytest.fixture(scope="session")
def service(tiny, gallery_path):
    options = ServiceOptions(max_upload=1 << 20, generation={"max_new_tokens": 6})
    with Service(*tiny, options=options) as service:
        service.gallery.fill(gallery_path)
        yield service


@pytest.fixture
def session(service):
    return service.session()


@pytest.fixture
def sent(tmp_path):
    """Puts a file where an upload would arrive."""

    def send(name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_nerf(content, path)
        return path

    return send

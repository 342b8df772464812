"""A gallery of two objects in three families, and a service with the tiny model."""

from __future__ import annotations

import json

import pytest
import torch

from gmn_encoder.nerfs.files import save_nerf
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.progress import no_progress
from gmn_encoder.rendering.occupancy import OccupancyGrid, write_occupancy
from llana_gmn.web.isolation import JobError
from llana_gmn.web.options import PictureSizes, ServiceOptions
from llana_gmn.web.reading import JOBS
from llana_gmn.web.state import Service

FAMILIES = {"mlp": "MLP-nano", "triplane": "TRI-nano", "hash": "HASH-nano"}
SMALL = PictureSizes(still=48, turn=48, views=24, still_voxels=24, turn_voxels=32)
"""Random NeRFs fill the whole box: they are looked for, and baked, on coarser grids than users get."""
CHAIR, CAR = ("03001627", "chair-1"), ("02958343", "car-1")


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


@pytest.fixture(scope="module")
def service(tiny, gallery_path):
    options = ServiceOptions(max_upload=1 << 20, sizes=SMALL, generation={"max_new_tokens": 6})
    with Service(*tiny, options=options) as service:
        service.gallery.fill(gallery_path)
        yield service


class Here:
    """Jobs in this process, where tests can change what they use."""

    def run(self, job, arguments, *, seconds, cuda=False, progress=no_progress):
        try:
            return json.loads(json.dumps(JOBS[job](json.loads(json.dumps(arguments)), progress)))
        except (ValueError, OSError) as error:
            raise JobError(str(error)) from error

    def close(self):
        pass


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

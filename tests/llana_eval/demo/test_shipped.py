from types import SimpleNamespace

import torch

from gmn_encoder import Nerf, save_nerf
from llana_eval.demo.shipped import embed_families


def test_nerfs_fitted_anew_in_their_place_are_embedded_anew(tmp_path, small_encoder):
    model = SimpleNamespace(nerf_encoder=small_encoder)
    nerf = tmp_path / "nerfs" / "mlp" / "03001627" / "n"
    for seed in (0, 1):
        made = Nerf.random("MLP-32H", seed=seed)
        save_nerf(made, nerf)
        found = embed_families(model, tmp_path / "nerfs", tmp_path / "out")["MLP"]
        torch.testing.assert_close(found.values, small_encoder.encode([made]))

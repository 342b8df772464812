"""Architectures with the names of the symmetries that they have."""

import torch

from gmn_encoder import HashArchitecture, MlpArchitecture, Nerf, TriplaneArchitecture
from gmn_encoder.nerfs.symmetries import SYMMETRIES

ARCHITECTURES = [
    MlpArchitecture(hidden_dim=16, frequencies=3, hidden_layers=3),
    MlpArchitecture(hidden_dim=16, frequencies=2, bias=True),
    TriplaneArchitecture(hidden_dim=16, frequencies=1, resolution=5, channels=3),
    TriplaneArchitecture(hidden_dim=16, frequencies=2, resolution=4, channels=4),  # an encoding that needs no padding
    TriplaneArchitecture(hidden_dim=16, frequencies=2, resolution=6, channels=5, hidden_layers=2, bias=True),
    HashArchitecture(hidden_dim=16, levels=3, log2_table_size=6),
    HashArchitecture(hidden_dim=16, levels=8, log2_table_size=5, bias=True, base_resolution=2, max_resolution=9),
]

CASES = [
    (architecture, name)
    for architecture in ARCHITECTURES
    for name, function in SYMMETRIES.items()
    if function(Nerf.random(architecture), torch.Generator()) is not None
]
"""Architectures with the names of their symmetries."""

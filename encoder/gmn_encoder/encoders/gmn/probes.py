"""The encoder's second sense: a small network over what the field shows at shared points.

Not in the paper, whose encoder reads weights alone. The points are a scrambled Sobol sequence: as many in each cell of a grid,
4 x 4 x 4 by default, which is what the local tokens are made of. Coordinates are kept as integers, so that a model that is cast
to half precision asks at the same points.

Shapes: B NeRFs, K points, C cells, D embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import GmnConfig

_HALF = 0.69
"""The points lie within this much of the centre on each axis: strictly inside the box."""
_STEPS = 1 << 20
_DROPOUT = 0.2
_CELL_DIM = 64


def sobol_points(count: int, grid: int, *, seed: int = 0) -> Tensor:
    """Points of the box as int32 ``(K, 3)`` in ``[0, 2^20)``, those of a cell of the grid side by side, x outermost."""
    with torch.device("cpu"):  # models are built on other devices, the one without memory among them
        unit = torch.quasirandom.SobolEngine(3, scramble=True, seed=seed).draw(count, dtype=torch.float64)
        steps = (unit * _STEPS).long().clamp(max=_STEPS - 1)
        cell = cells_of(steps.double() / _STEPS, grid)
        if grid and bool((cell.bincount(minlength=grid**3) != count // grid**3).any()):
            # Cells of another number than a power of two do not divide the sequence evenly: each has its own part of it.
            corner = torch.cartesian_prod(*[torch.arange(grid)] * 3).repeat_interleave(count // grid**3, dim=0)
            steps = ((corner + unit) / grid * _STEPS).long().clamp(max=_STEPS - 1)
            cell = torch.arange(count)
    return steps[cell.argsort(stable=True)].int().to(torch.get_default_device())


def cells_of(unit: Tensor, grid: int) -> Tensor:
    """The cell of each point ``(..., 3)`` in 0..1, numbered with x outermost; 0 without a grid."""
    place = (unit * grid).long().clamp(0, max(grid - 1, 0))
    return (place[..., 0] * grid + place[..., 1]) * grid + place[..., 2]


class ProbeNetwork(nn.Module):
    """What the field shows at K points to one vector, and to one for each cell of a grid."""

    places: Tensor

    def __init__(self, config: GmnConfig) -> None:
        super().__init__()
        width, grid = config.probe_dim, config.token_grid
        self.grid, self.pool = grid, config.token_pool
        self.register_buffer("places", sobol_points(config.probes, grid))
        self.first = nn.Linear(4 * config.probes, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(_DROPOUT)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, config.embedding_dim)
        if grid:
            inside = 4 * config.probes // grid**3
            self.cell_weight = nn.Parameter(torch.empty(grid**3, inside, _CELL_DIM))
            self.cell_bias = nn.Parameter(torch.zeros(grid**3, _CELL_DIM))
            nn.init.trunc_normal_(self.cell_weight, std=inside**-0.5)
            self.cell_last = nn.Linear(_CELL_DIM, config.embedding_dim)

    @property
    def points(self) -> Tensor:
        """World coordinates of the points, float32 ``(K, 3)``."""
        return (self.places.float() / _STEPS * 2 - 1) * _HALF

    def ask_at(self, xyz: Tensor) -> None:
        """Ask at other world coordinates ``(K, 3)``; what lies beyond the box shows nothing."""
        self.places = ((xyz / _HALF + 1) / 2 * _STEPS).round().int()

    def forward(self, fields: Tensor) -> Tensor:
        """The vector ``(B, D)`` of what was seen ``(B, K, 4)``, see `nerfs.probing.visible_field`."""
        hidden = self.dropout(F.gelu(self.norm(self.first(fields.to(self.first.weight.dtype).flatten(1)))))
        return self.last(F.gelu(self.second(hidden)))

    def tokens(self, fields: Tensor) -> Tensor:
        """A vector for each cell ``(B, C, D)``, all of length sqrt(D); `visible_field` of the cell's own points decides it.

        Cells that share a token have the mean of theirs.
        """
        inside = fields.to(self.cell_weight.dtype).view(len(fields), self.grid**3, -1)
        hidden = F.gelu(torch.einsum("bci,cih->bch", inside, self.cell_weight) + self.cell_bias)
        tokens = self.cell_last(hidden)
        tokens = F.normalize(tokens, dim=-1) * tokens.shape[-1] ** 0.5
        if self.pool == 1:
            return tokens
        side = self.grid // self.pool
        tokens = (
            tokens.unflatten(1, (side, self.pool, side, self.pool, side, self.pool)).mean(dim=(2, 4, 6)).flatten(1, 3)
        )
        return F.normalize(tokens, dim=-1) * tokens.shape[-1] ** 0.5

    def cells(self, xyz: Tensor) -> Tensor:
        """Which of `tokens` says what is at points ``(..., 3)``, int64 ``(...)``; beyond the grid, the nearest one."""
        return cells_of((xyz / _HALF + 1) / 2, self.grid // self.pool)

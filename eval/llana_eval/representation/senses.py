"""What tells the two senses of an encoder apart: which symmetries each is blind to, and what each costs.

Shapes: N NeRFs, D embedding, K points.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gmn_encoder import parse_architecture
from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from gmn_encoder.nerfs.architectures import FAMILY_NAMES, paper_families
from gmn_encoder.nerfs.probing import visible_field
from gmn_encoder.nerfs.record import Nerf, NerfBatch
from gmn_encoder.nerfs.symmetries import SYMMETRIES

from ..tables import Table

Embed = Callable[[Sequence[Nerf]], Tensor]
"""NeRFs to vectors ``(N, D)``."""

INVARIANCE_NOTE = """A symmetry moves an embedding by so much of the root mean square distance of two objects. What is
called a graph term is what the graph network adds, before the gate."""
_REPEATS = 5


def invariance_table(embed: Mapping[str, Embed], nerfs: Mapping[str, Sequence[Nerf]]) -> Table:
    """How far embeddings move under changes of the weights that leave the field alone, as a share of the distance of objects.

    Args:
        embed: methods by name.
        nerfs: NeRFs of different objects in one architecture, by name.

    Returns:
        a row for each symmetry and name: root mean square of what each embedding moves by, over that of two objects' difference.
    """
    rows = []
    for name, originals in nerfs.items():
        for symmetry, change in SYMMETRIES.items():
            generator = torch.Generator().manual_seed(0)
            changed = [change(nerf, generator) for nerf in originals]
            found = [each for each in changed if each is not None]
            if len(found) == len(originals):
                moved = [_moved(method, originals, found) for method in embed.values()]
                rows.append((symmetry.replace("_", " "), name, *(f"{value:.0e}" for value in moved)))
    columns = ["symmetry", "family", *embed]
    return Table("What embeddings make of other weights of the same field", columns, rows, INVARIANCE_NOTE)


def _moved(embed: Embed, nerfs: Sequence[Nerf], changed: Sequence[Nerf]) -> float:
    before, after = embed(nerfs).double(), embed(changed).double()
    apart = before[:, None] - before[None]
    between = apart.square().sum(dim=-1).sum() / (len(before) * (len(before) - 1))
    return float(((after - before).square().sum(dim=-1).mean() / between).sqrt())


@torch.no_grad()
def cost_table(architectures: Sequence[str] | None = None, *, points: Sequence[int] = (1024, 4096)) -> Table:
    """Milliseconds that each sense takes for a NeRF: the graph network of the paper's size, and fields at some points.

    Args:
        architectures: names; None for the paper's three families at their sizes.
        points: numbers of points.
    """
    encoder = GmnEncoder(GmnConfig()).eval()
    rows = []
    for name in architectures or [FAMILY_NAMES[family] for family in paper_families()]:
        nerf = NerfBatch.stack([Nerf.random(parse_architecture(name), seed=0)])
        graph = _milliseconds(functools.partial(encoder.embed, nerf))
        cells: list[str | float] = []
        for count in points:
            where = (torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1) * 0.69
            asked = _milliseconds(functools.partial(visible_field, nerf, where))
            cells += [asked, 100 * asked / graph]
        rows.append((name, graph, *cells))
    names = [name for count in points for name in (f"{count:,} points, ms", f"{count:,} points, % of it")]
    note = (
        f"Medians of {_REPEATS} calls, threads: {torch.get_num_threads()}. The graph network has the paper's size, 4 layers of "
        "width 128, and random weights."
    )
    return Table("What the senses cost for a NeRF", ["NeRF", "graph network, ms", *names], rows, note)


def _milliseconds(run: Callable[[], object]) -> float:
    """Median time of a call, after one that warms up."""
    run()
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def resolution_table(nerfs: Mapping[str, Sequence[Nerf]], *, points: Sequence[int] = (256, 1024, 4096, 16384)) -> Table:
    """How much of a field its answers at K points tell: PSNR of opacity and colour at other points, from the nearest answer.

    Args:
        nerfs: NeRFs by name.
        points: numbers of points K.
    """
    generator = torch.Generator().manual_seed(1)
    asked = (torch.rand(4096, 3, generator=generator) * 2 - 1) * 0.69
    rows = []
    for name, members in nerfs.items():
        cells: list[float | None] = []
        for count in points:
            known = (torch.quasirandom.SobolEngine(3, scramble=True, seed=0).draw(count) * 2 - 1) * 0.69
            nearest = torch.cdist(asked, known).argmin(dim=1)
            errors = []
            for nerf in members:
                one = NerfBatch.stack([nerf])
                truth = visible_field(one, asked)[0]
                seen = truth[:, 3] > 0.05
                if bool(seen.any()):
                    errors.append(float((visible_field(one, known)[0, nearest] - truth)[seen].square().mean()))
            cells.append(-10 * math.log10(statistics.fmean(errors)) if errors else None)
        rows.append((name, *cells))
    columns = ["NeRFs", *(f"K = {count:,}" for count in points)]
    return Table("PSNR of fields where something is seen, from the nearest of K answers", columns, rows)

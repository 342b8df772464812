"""Time and memory of the encoder: the edge-list path written the usual way against the dense path, in one run.

For each family: median and best seconds per NeRF, float32 and bfloat16, extra peak memory (of the first NeRF of an
architecture in a process, which also works out the architecture's constants, and of a later one), the relative difference of the
outputs, the fraction of the time that the matrix products alone would need at this machine's measured speed, and the way from
file to embedding; on a GPU NeRFs a second by batch size, too.

    python scripts/bench_encoder.py                 # all families, on the GPU if there is one
    python scripts/bench_encoder.py --families MLP --repeats 9 --threads 2
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from ... import benchmarking
from ...nerfs.files import load_nerf, save_nerf
from ...nerfs.record import Nerf
from .encoder import GmnEncoder
from .graph import parameter_graph

TINY: dict[str, Any] = {"families": ["MLP-nano"], "repeats": 1}

_USUAL = "edge list"
_SECONDS = 1.0  # the least that a measurement of a batch on a GPU takes
_COLUMNS = {
    "family": "",
    "path": "",
    "best s": ".4f",
    "median s": ".4f",
    "times faster (best)": ".2f",
    "extra memory MiB, first": ".0f",
    "later": ".0f",
    "relative difference": ".1e",
    "cosine": ".7f",
    "of product floor": ".2f",
    "NeRFs/s": ".1f",
}


@torch.no_grad()
def usual_way(encoder: GmnEncoder, graph: Any) -> Tensor:
    """Concatenate, gather, scatter-mean; one edge a row from start to end, as the paper's code does.

    Args:
        encoder: an encoder without a head behind its readout.
        graph: PyG's `Data` of one NeRF.

    Returns:
        the embedding, ``(1, D)``.
    """
    edge = encoder.pre_encoder.edges(graph.edge_attr)
    edge = encoder.gnn_w_readout.gnn(encoder.pre_encoder.nodes(graph.x), graph.edge_index, edge)
    owner = torch.zeros(graph.edge_index.shape[1], dtype=torch.int64, device=edge.device)
    return scatter(encoder.gnn_w_readout.readout.mlp(edge), owner, dim=0, dim_size=1, reduce="mean")


def bench(
    *,
    families: Sequence[str] = ("MLP", "TRI", "HASH"),
    repeats: int = 7,
    device: torch.device | str | None = None,
) -> Iterator[benchmarking.Result]:
    """Both paths on a random NeRF of each family, with random weights of the paper's sizes.

    Args:
        families: names of architectures.
        repeats: counted runs of each case.
        device: where the encoder runs; None for the accelerator if there is one.

    Yields:
        a result after each family.
    """
    device = benchmarking.pick_device(device)
    torch.manual_seed(0)
    encoder = GmnEncoder().eval().to(device)
    speeds = {dtype: product_speed(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    gflops = {f"{str(dtype)[6:]}_product_gflops": round(speed / 1e9) for dtype, speed in speeds.items()}
    about = benchmarking.about_run(device, **gflops)
    found: dict[str, Any] = {}
    for name in families:
        found[name] = measure_family(name, encoder, repeats=repeats, speeds=speeds)
        yield benchmarking.Result(
            what="encoder",
            title="Encoder: edge list against dense blocks",
            about=about,
            figures={"families": found},
            text=benchmarking.markdown_table(_COLUMNS, list(_rows(found))),
        )


def measure_family(name: str, encoder: GmnEncoder, *, repeats: int, speeds: dict[torch.dtype, float]) -> dict[str, Any]:
    """All figures of one architecture.

    Args:
        name: the architecture's name.
        encoder: the encoder, on the device to measure.
        repeats: counted runs of each case.
        speeds: floating point operations a second of the products in each dtype, of `product_speed`.
    """
    device = encoder.device
    nerf = Nerf.random(name).to(device)
    exact = GmnEncoder().double().eval()
    exact.load_state_dict(encoder.state_dict())
    expected = exact.encode([nerf.to("cpu")])[0]
    edges = parameter_graph(nerf).num_edges
    flop = 20 * 2 * encoder.config.hidden_dim**2 * edges
    ways = _ways(encoder, nerf)
    times = benchmarking.alternate(ways, repeats=repeats, device=device)
    cases = {}
    for case, run in ways.items():
        output = run()[0].cpu().double()
        if device.type == "cuda":
            first = later = benchmarking.extra_memory(run, device)[1]
        else:
            first, later = benchmarking.in_fresh_process(_memory_of, case, name)
        speed = speeds[torch.bfloat16 if case == "bfloat16" else torch.float32]
        cases[case] = {
            **times[case],
            "speedup_median": times[_USUAL]["median"] / times[case]["median"],
            "speedup_best": times[_USUAL]["best"] / times[case]["best"],
            "extra_memory_mib": first,
            "extra_memory_later_mib": later,
            "relative_difference": ((output - expected).abs().max() / expected.abs().max()).item(),
            "cosine": torch.cosine_similarity(output, expected, dim=0).item(),
            "fraction_of_product_floor": flop / speed / times[case]["best"],
        }
    return {
        "edges": edges,
        "cases": cases,
        "file_to_embedding": _from_file(name, encoder, repeats),
        "throughput": throughput(name, encoder) if device.type == "cuda" else {},
    }


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the encoder's most common product, 4096 x 128 x 128 (2^18 rows on a GPU), best of many."""
    rows = 4096 if device.type == "cpu" else 1 << 18
    a, b = torch.randn(rows, 128, device=device).to(dtype), torch.randn(128, 128, device=device).to(dtype)
    out = torch.empty_like(a)
    best = min(benchmarking.timed(lambda: torch.mm(a, b, out=out), device)[1] for _ in range(50))
    return 2 * rows * 128 * 128 / best


def throughput(name: str, encoder: GmnEncoder) -> dict[str, float]:
    """NeRFs of an architecture that are embedded in a second, by dtype and batch size."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        for batch in (1, 4, 16, 64):
            nerfs = [Nerf.random(name, seed=i).to(encoder.device) for i in range(batch)]
            run = functools.partial(encoder.encode, nerfs, batch_size=batch, dtype=dtype)
            run()
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < _SECONDS:
                benchmarking.timed(run, encoder.device)
                count += batch
            rates[f"{str(dtype)[6:]} batch {batch}"] = count / (time.perf_counter() - start)
    return rates


def _ways(encoder: GmnEncoder, nerf: Nerf) -> dict[str, Callable[[], Tensor]]:
    """The ways to an embedding, from a NeRF whose graph is there."""
    graph = parameter_graph(nerf)
    return {
        _USUAL: lambda: usual_way(encoder, graph),
        "float32": lambda: encoder.encode([nerf]),
        "bfloat16": lambda: encoder.encode([nerf], dtype=torch.bfloat16),
    }


def _memory_of(case: str, name: str) -> tuple[float | None, float | None]:
    """MiB that embedding one NeRF adds to the peak of this process, the first time and later."""
    encoder, device = GmnEncoder().eval(), torch.device("cpu")
    for run in _ways(encoder, Nerf.random({"family": "mlp", "hidden_layers": 1, "hidden_dim": 16})).values():
        run()  # libraries load what they load late
    run = _ways(encoder, Nerf.random(name))[case]
    return benchmarking.extra_memory(run, device)[1], benchmarking.extra_memory(run, device)[1]


def _from_file(name: str, encoder: GmnEncoder, repeats: int) -> dict[str, Any]:
    """Seconds from a NeRF's file to its embedding."""
    with tempfile.TemporaryDirectory() as folder:
        file = save_nerf(Nerf.random(name), Path(folder) / "nerf_weights.pth")
        cases: dict[str, Callable[[], Tensor]] = {
            _USUAL: lambda: usual_way(encoder, parameter_graph(load_nerf(file)).to(encoder.device)),
            "float32": lambda: encoder.encode([load_nerf(file)]),
        }
        times = benchmarking.alternate(cases, repeats=repeats, device=encoder.device)
    return {**times, "speedup_best": times[_USUAL]["best"] / times["float32"]["best"]}


def _rows(families: dict[str, Any]) -> Iterator[list[Any]]:
    keys = ["best", "median", "speedup_best", "extra_memory_mib", "extra_memory_later_mib"]
    keys += ["relative_difference", "cosine", "fraction_of_product_floor"]
    for name, result in families.items():
        for case, row in result["cases"].items():
            yield [name, case, *(row[key] for key in keys), None]
        files = result["file_to_embedding"]
        seconds = files["float32"]
        rest: list[Any] = [None] * 6
        yield [name, "file to embedding, float32", seconds["best"], seconds["median"], files["speedup_best"], *rest]
        for case, rate in result["throughput"].items():
            yield [name, case, None, None, None, *rest[1:], rate]


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY)

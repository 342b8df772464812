"""Time and memory of the encoder: the edge-list path written the usual way against the dense path, in one run.

For each family: median and best seconds per NeRF, float32 and bfloat16, extra peak memory (of the first NeRF of an
architecture in a process, which also works out the architecture's constants, and of later ones), the relative difference of the
outputs, the fraction of the time that the matrix products alone would need at this machine's measured speed, and the way from
file to embedding. Results go to benchmarks/results/ as JSON and Markdown.

    python scripts/bench_encoder.py                 # all families, on the GPU if there is one
    python scripts/bench_encoder.py --families MLP --repeats 9 --threads 2
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch_geometric.utils import scatter

from gmn_encoder import GmnEncoder, Nerf, load_nerf, parameter_graph, save_nerf

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
SECONDS = 1.0  # what a measurement of a GPU case takes at least


def usual_way(encoder: GmnEncoder, graph: Any) -> torch.Tensor:
    """Concatenate, gather, scatter-mean; one edge a row from start to end, as the paper's code does."""
    edge = encoder.pre_encoder.edges(graph.edge_attr)
    edge = encoder.gnn_w_readout.gnn(encoder.pre_encoder.nodes(graph.x), graph.edge_index, edge)
    owner = torch.zeros(graph.edge_index.shape[1], dtype=torch.int64, device=edge.device)
    return scatter(encoder.gnn_w_readout.readout.mlp(edge), owner, dim=0, dim_size=1, reduce="mean")


def timed(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternating(cases: dict[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Each case once per round, so that a slow minute of the machine hits all of them."""
    for run in cases.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            times[name].append(timed(run, device))
    return {name: {"median": statistics.median(values), "best": min(values)} for name, values in times.items()}


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the encoder's most common product, 4096 x 128 x 128 (65536 rows on a GPU), best of many."""
    rows = 4096 if device.type == "cpu" else 1 << 18
    a, b = torch.randn(rows, 128, device=device).to(dtype), torch.randn(128, 128, device=device).to(dtype)
    out = torch.empty_like(a)
    best = min(timed(lambda: torch.mm(a, b, out=out), device) for _ in range(50))
    return 2 * rows * 128 * 128 / best


def extra_memory(mode: str, name: str, threads: int) -> float:
    """MiB that embedding one NeRF adds to the peak of a fresh process that holds encoder, NeRF and graph."""
    command = [sys.executable, __file__, "--memory-of", mode, "--families", name, "--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_extra_memory(mode: str, name: str) -> None:
    encoder, nerf = GmnEncoder().eval(), Nerf.random(name)
    graph = parameter_graph(nerf)
    small = Nerf.random({"family": "mlp", "hidden_layers": 1, "hidden_dim": 16})
    with torch.no_grad():  # warm up libraries on something small
        usual_way(encoder, parameter_graph(small))
        encoder.encode([small])
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = memory_status("VmRSS")
        if mode == "edge list":
            usual_way(encoder, graph)
        else:
            dtype = torch.bfloat16 if mode.startswith("bfloat16") else None
            encoder.encode([nerf], dtype=dtype)
            if mode.endswith("later"):  # once the constants of the architecture are there
                Path("/proc/self/clear_refs").write_text("5")
                before = memory_status("VmRSS")
                encoder.encode([nerf], dtype=dtype)
    print(memory_status("VmHWM") - before)


def memory_status(field: str) -> float:
    """A line of Linux's /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"no {field} in /proc/self/status: extra memory is measured on Linux")


def gpu_memory(run: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def bench_family(name: str, encoder: GmnEncoder, arguments: argparse.Namespace) -> dict[str, Any]:
    device = encoder.device
    nerf = Nerf.random(name).to(device)
    graph = parameter_graph(nerf)
    exact = GmnEncoder().double().eval()
    exact.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        expected = exact.encode([nerf.to("cpu")])[0]
    cases = {
        "edge list": lambda: usual_way(encoder, graph),
        "float32": lambda: encoder.encode([nerf]),
        "bfloat16": lambda: encoder.encode([nerf], dtype=torch.bfloat16),
    }
    with torch.no_grad():
        times = alternating(cases, arguments.repeats, device)
        outputs = {case: run()[0].cpu().double() for case, run in cases.items()}
    flop = 20 * 2 * encoder.config.hidden_dim**2 * graph.num_edges
    result: dict[str, Any] = {"edges": graph.num_edges, "cases": {}}
    for case, output in outputs.items():
        speed = product_speed(device, torch.bfloat16 if case == "bfloat16" else torch.float32)
        if device.type == "cuda":
            memory = later = gpu_memory(cases[case])
        else:
            memory = extra_memory(case, name, torch.get_num_threads())
            later = memory if case == "edge list" else extra_memory(f"{case} later", name, torch.get_num_threads())
        result["cases"][case] = {
            **times[case],
            "speedup_median": times["edge list"]["median"] / times[case]["median"],
            "speedup_best": times["edge list"]["best"] / times[case]["best"],
            "extra_memory_mib": memory,
            "extra_memory_later_mib": later,
            "relative_difference": ((output - expected).abs().max() / expected.abs().max()).item(),
            "cosine": torch.cosine_similarity(output, expected, dim=0).item(),
            "fraction_of_product_floor": flop / speed / times[case]["best"],
        }
    result["file_to_embedding"] = bench_files(name, encoder, arguments)
    if device.type == "cuda":
        result["throughput"] = bench_batches(name, encoder)
    return result


def bench_files(name: str, encoder: GmnEncoder, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = save_nerf(Nerf.random(name), Path(folder) / "nerf_weights.pth")

        def edges() -> Any:
            return usual_way(encoder, parameter_graph(load_nerf(file)).to(encoder.device))

        with torch.no_grad():
            cases = {"edge list": edges, "float32": lambda: encoder.encode([load_nerf(file)])}
            times = alternating(cases, arguments.repeats, encoder.device)
    return {**times, "speedup_best": times["edge list"]["best"] / times["float32"]["best"]}


def bench_batches(name: str, encoder: GmnEncoder) -> dict[str, Any]:
    """NeRFs/s on a GPU by batch size and dtype."""
    rates: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for batch in (1, 4, 16, 64):
            nerfs = [Nerf.random(name, seed=i).to(encoder.device) for i in range(batch)]
            encoder.encode(nerfs, batch_size=batch, dtype=dtype)
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < SECONDS:
                timed(lambda: encoder.encode(nerfs, batch_size=batch, dtype=dtype), encoder.device)  # noqa: B023
                count += batch
            rates[f"{str(dtype)[6:]} batch {batch}"] = count / (time.perf_counter() - start)
    return rates


def about_machine(device: torch.device) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    name = torch.cuda.get_device_name() if device.type == "cuda" else _cpu_name()
    return {
        "date": date.today().isoformat(),
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit,
        "float32_product_gflops": product_speed(device, torch.float32) / 1e9,
        "bfloat16_product_gflops": product_speed(device, torch.bfloat16) / 1e9,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def markdown(machine: dict[str, Any], families: dict[str, Any]) -> str:
    about = ", ".join(
        f"{key} {value:.0f}" if isinstance(value, float) else f"{key} {value}" for key, value in machine.items()
    )
    columns = ["family", "path", "best s", "median s", "times faster (best)", "extra memory MiB, first / later"]
    columns += ["relative difference", "cosine", "of product floor"]
    lines = ["# Encoder: edge list against dense blocks", "", about, "", _row(columns), _row(["---"] * len(columns))]
    for name, result in families.items():
        for case, row in result["cases"].items():
            memory = f"{row['extra_memory_mib']:.0f} / {row['extra_memory_later_mib']:.0f}"
            times = [f"{row['best']:.4f}", f"{row['median']:.4f}", f"{row['speedup_best']:.2f}"]
            quality = [f"{row['relative_difference']:.1e}", f"{row['cosine']:.7f}"]
            lines.append(_row([name, case, *times, memory, *quality, f"{row['fraction_of_product_floor']:.2f}"]))
        files, speedup = result["file_to_embedding"]["float32"], result["file_to_embedding"]["speedup_best"]
        times = [f"{files['best']:.4f}", f"{files['median']:.4f}", f"{speedup:.2f}"]
        lines.append(_row([name, "file to embedding, float32", *times, "", "", "", ""]))
        for case, rate in result.get("throughput", {}).items():
            lines.append(_row([name, case, f"{rate:.1f} NeRFs/s", "", "", "", "", "", ""]))
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["MLP", "TRI", "HASH"], metavar="NAME")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", metavar="CASE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print_extra_memory(arguments.memory_of, arguments.families[0])
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    encoder = GmnEncoder().eval().to(device)
    machine = about_machine(device)
    families = {name: bench_family(name, encoder, arguments) for name in arguments.families}
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = RESULTS / f"encoder-{machine['date']}-{device.type}"
    stem.with_suffix(".json").write_text(json.dumps({"machine": machine, "families": families}, indent=2) + "\n")
    stem.with_suffix(".md").write_text(markdown(machine, families))
    print(markdown(machine, families))


if __name__ == "__main__":
    main()

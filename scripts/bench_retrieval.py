"""Time and memory of exact retrieval: in blocks (llana_eval.representation.retrieval) against the full matrix of cosines.

Each case runs in a process of its own, which reports its time and the peak of its resident memory over what it held before (the
embeddings and the libraries). Embeddings are a random object plus noise, so that recalls are neither 0 nor 1; both ways must find
the same recalls. Results go to benchmarks/results/ as JSON and Markdown.

    python scripts/bench_retrieval.py --sizes 2000,5000                  # a minute
    python scripts/bench_retrieval.py --sizes 5000,40000 --full-up-to 5000
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from gmn_encoder.files import write_bytes, write_json
from llana_eval.representation.retrieval import KS, recall_at_k
from llana_eval.tables import Column, Table

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
NOISE = 4.0


def peak() -> float:
    """MiB, of this process since its start."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def full_matrix(queries: torch.Tensor, gallery: torch.Tensor) -> dict[int, float]:
    """Recall of query i finding gallery item i, from all cosines at once; ties do not occur in these embeddings."""
    first, second = (each.double() / each.double().norm(dim=1, keepdim=True) for each in (queries, gallery))
    cosines = first @ second.T
    ahead = (cosines > cosines.diagonal()[:, None]).sum(dim=1)
    return {k: float((ahead < k).double().mean()) for k in KS}


def measure(way: str, count: int, width: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    objects = torch.randn(count, width, generator=generator)
    queries = torch.randn(count, width, generator=generator).mul_(NOISE).add_(objects)
    gallery = torch.randn(count, width, generator=generator).mul_(NOISE).add_(objects)
    del objects
    recall_at_k(queries[:8], gallery[:8], range(8), range(8))  # loads what loads late
    before, start = peak(), time.perf_counter()
    if way == "blocks":
        recall = recall_at_k(queries, gallery, range(count), range(count))
    else:
        recall = full_matrix(queries, gallery)
    seconds = time.perf_counter() - start
    return {"way": way, "count": count, "seconds": seconds, "extra_mib": peak() - before, "recall": recall}


def cases(sizes: list[int], full_up_to: int, width: int, threads: int) -> list[dict[str, Any]]:
    found = []
    for count in sizes:
        for way in ("blocks", "full") if count <= full_up_to else ("blocks",):
            command = [sys.executable, __file__, "--measure", way, "--sizes", str(count), "--width", str(width)]
            command += ["--threads", str(threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
            print(found[-1], file=sys.stderr)
        if len(found) > 1 and found[-1]["way"] == "full" and found[-1]["recall"] != found[-2]["recall"]:
            raise SystemExit(
                f"recalls differ at {count}: {found[-2]['recall']} in blocks, {found[-1]['recall']} in full"
            )
    return found


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def report(found: list[dict[str, Any]], width: int, threads: int) -> None:
    about = {"date": date.today().isoformat(), "device": processor(), "threads": threads, "torch": torch.__version__}
    about |= {"commit": commit(), "width": width}
    columns: list[str | Column] = ["way", "queries x gallery", Column("seconds", 1), Column("GFLOP/s", 0)]
    columns += [Column("extra memory MiB", 0), *(Column(f"recall@{k}", 4) for k in KS)]
    rows = []
    for case in found:
        speed = 2 * case["count"] ** 2 * width / case["seconds"] / 1e9
        recall = [float(value) for value in case["recall"].values()]
        rows.append(
            [case["way"], f"{case['count']} x {case['count']}", case["seconds"], speed, case["extra_mib"], *recall]
        )
    table = Table(
        "Exact retrieval in float64", columns, rows, note=", ".join(f"{key} {value}" for key, value in about.items())
    )
    name = f"retrieval-{about['date']}-cpu"
    write_json({**about, "cases": found}, RESULTS / f"{name}.json")
    write_bytes(table.markdown().encode(), RESULTS / f"{name}.md")
    print(table.markdown(), end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="2000,5000", help="numbers of queries and of gallery items")
    parser.add_argument("--full-up-to", type=int, default=5000, help="largest size for the full matrix")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--measure", choices=("blocks", "full"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = [int(size) for size in arguments.sizes.split(",")]
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, sizes[0], arguments.width)))
        return
    report(cases(sizes, arguments.full_up_to, arguments.width, arguments.threads), arguments.width, arguments.threads)


if __name__ == "__main__":
    main()

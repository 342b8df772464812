"""Time and memory of exact retrieval: in blocks (`recall_at_k`) against the full matrix of cosines.

Each case runs in a process of its own, which reports its time and the peak of its memory over what it held before (the
embeddings and the libraries). Embeddings are a random object plus noise, so that recalls are neither 0 nor 1; both ways must find
the same recalls.

    python scripts/bench_retrieval.py --sizes 2000,5000                  # a minute
    python scripts/bench_retrieval.py --sizes 5000,40000 --full-up-to 5000
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from gmn_encoder import benchmarking

from .retrieval import KS, recall_at_k

TINY: dict[str, Any] = {"sizes": "64", "width": 16}

Way = Literal["blocks", "full"]

_NOISE = 4.0
_COLUMNS = {"way": "", "queries x gallery": "", "seconds": ".1f", "GFLOP/s": ".0f", "extra memory MiB": ".0f"}


def bench(
    *, sizes: str = "2000,5000", full_up_to: int = 5000, width: int = 1024, device: torch.device | str = "cpu"
) -> Iterator[benchmarking.Result]:
    """Both ways at several sizes.

    Args:
        sizes: numbers of queries, and of gallery items, separated by commas.
        full_up_to: the largest size at which the full matrix is measured, too.
        width: size of an embedding.
        device: where the embeddings are; the CPU unless another is named.

    Yields:
        a result after each size.

    Raises:
        ValueError: the two ways found different recalls.
    """
    device = benchmarking.pick_device(device)
    about = benchmarking.about_run(device, width=width)
    cases: list[dict[str, Any]] = []
    for count in map(int, sizes.split(",")):
        ways: list[Way] = ["blocks", "full"] if count <= full_up_to else ["blocks"]
        found = [benchmarking.in_fresh_process(measure, way, count, width, str(device)) for way in ways]
        if any(case["recall"] != found[0]["recall"] for case in found):
            raise ValueError(f"recalls differ at {count}: {' and '.join(str(case['recall']) for case in found)}")
        cases += found
        text = benchmarking.markdown_table(
            _COLUMNS | {f"recall@{k}": ".4f" for k in KS}, [_row(case, width) for case in cases]
        )
        title = "Exact retrieval in float64"
        yield benchmarking.Result(what="retrieval", title=title, about=about, figures={"cases": cases}, text=text)


def measure(way: Way, count: int, width: int, device: str) -> dict[str, Any]:
    """One way at one size, in this process."""
    generator, place = torch.Generator().manual_seed(0), torch.device(device)
    objects = torch.randn(count, width, generator=generator)
    noisy = (torch.randn(count, width, generator=generator).mul_(_NOISE).add_(objects) for _ in range(2))
    queries, gallery = (each.to(place) for each in noisy)
    del objects
    ids = range(count)
    recall_at_k(queries[:8], gallery[:8], ids[:8], ids[:8])  # loads what loads late
    find = partial(recall_at_k, queries, gallery, ids, ids)
    if way == "full":
        find = partial(full_matrix_recall, queries, gallery)
    (recall, seconds), extra = benchmarking.extra_memory(lambda: benchmarking.timed(find, place), place)
    return {"way": way, "count": count, "seconds": seconds, "extra_mib": extra, "recall": recall}


def full_matrix_recall(queries: Tensor, gallery: Tensor) -> dict[int, float]:
    """Share of queries ``(n, D)`` whose gallery item of the same row is among the k nearest, from all cosines at once.

    Ties do not occur in these embeddings.
    """
    first, second = (each.double() / each.double().norm(dim=1, keepdim=True) for each in (queries, gallery))
    cosines = first @ second.T
    ahead = (cosines > cosines.diagonal()[:, None]).sum(dim=1)
    return {k: float((ahead < k).double().mean()) for k in KS}


def _row(case: dict[str, Any], width: int) -> list[Any]:
    speed = 2 * case["count"] ** 2 * width / case["seconds"] / 1e9
    size = f"{case['count']} x {case['count']}"
    return [case["way"], size, case["seconds"], speed, case["extra_mib"], *case["recall"].values()]


def main() -> None:
    """The benchmark, from the command line of this process."""
    benchmarking.run_benchmark(bench, tiny=TINY)

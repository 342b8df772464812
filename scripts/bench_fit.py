"""Measure fits of real meshes: held-out PSNR and seconds per NeRF, for each family.

    python scripts/bench_fit.py DIRECTORY_OF_MESHES --quality quick --count 5 --out benchmarks/results

DIRECTORY_OF_MESHES has one directory per class. The sample is a seeded choice: classes in shuffled order, one mesh of each by
turns. Seconds hold hull and training, not the views (a few seconds an object) and the measurement.
Every finished NeRF is kept in --work and not fitted again; figures are written after each.
"""

from __future__ import annotations

import argparse
import datetime
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from gmn_encoder.files import write_bytes, write_json
from gmn_encoder.fitting.job import FitJob
from gmn_encoder.fitting.presets import preset
from gmn_encoder.fitting.sources import find_sources
from gmn_encoder.nerfs.architectures import parse_architecture
from gmn_encoder.objects import ViewSettings
from gmn_encoder.objects.mesh_files import EXTENSIONS


def choose(root: Path, count: int, seed: int) -> list[Path]:
    """`count` meshes, one of each class by turns."""
    dice = random.Random(seed)
    classes = sorted(child for child in root.iterdir() if child.is_dir() and child.name != "other")
    members = {c: sorted(f for f in c.iterdir() if f.suffix.lower() in EXTENSIONS) for c in classes}
    for files in members.values():
        dice.shuffle(files)
    dice.shuffle(classes)
    chosen: list[Path] = []
    turn = 0
    while len(chosen) < count and any(turn < len(files) for files in members.values()):
        chosen += [members[c][turn] for c in classes if turn < len(members[c])]
        turn += 1
    return chosen[:count]


def summary(records: list[dict]) -> list[dict]:
    rows = []
    for name in dict.fromkeys(record["name"] for record in records):
        each = [record for record in records if record["name"] == name]
        psnr = [record["psnr"] for record in each]
        rows.append(
            {
                "architecture": name,
                "objects": len(each),
                "psnr_mean": float(np.mean(psnr)),
                "psnr_5th_percentile": float(np.percentile(psnr, 5)),
                "psnr_min": min(psnr),
                "seconds_per_nerf": float(np.mean([record["seconds"] for record in each])),
                "cpu_seconds_per_nerf": float(np.mean([record["cpu_seconds"] for record in each])),
                "device": each[0]["device"],
            }
        )
    return rows


def markdown(rows: list[dict], quality: str) -> str:
    lines = [
        "| family | preset | objects | PSNR mean | 5th percentile | seconds per NeRF | CPU seconds | device |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['architecture']} | {quality} | {row['objects']} | {row['psnr_mean']:.2f} "
            f"| {row['psnr_5th_percentile']:.2f} | {row['seconds_per_nerf']:.0f} | {row['cpu_seconds_per_nerf']:.0f} "
            f"| {row['device']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meshes", type=Path)
    parser.add_argument("--quality", default="quick")
    parser.add_argument("--architectures", default="HASH,MLP,TRI")
    parser.add_argument("--count", type=int, default=5, help="objects")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of the fits")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no other object after so long")
    parser.add_argument("--work", help="where the NeRFs go (default: a temporary directory)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    architectures = [parse_architecture(name) for name in arguments.architectures.split(",")]
    settings = {each: preset(arguments.quality, each.family) for each in architectures}
    chosen = choose(arguments.meshes, arguments.count, arguments.seed)
    records: list[dict] = []
    failed: list[str] = []
    stem = f"fit-{datetime.date.today().isoformat()}-{arguments.quality}-{device.type}"

    def add(source, architecture, record) -> None:
        records.append(dict(record))
        rows = summary(records)
        write_json(
            {
                "quality": arguments.quality,
                "sample": f"{arguments.count} meshes asked for, a seeded choice over classes",
                "seed": arguments.seed,
                "threads": torch.get_num_threads(),
                "settings": {each.name: value.to_dict() for each, value in settings.items()},
                "summary": rows,
                "failed": failed,
                "nerfs": [
                    {
                        key: record[key]
                        for key in ("name", "psnr", "psnr_each", "seconds", "cpu_seconds", "nerfs_at_once")
                    }
                    | {"object": "/".join(Path(record["source"]).parts[-2:])}
                    for record in records
                ],
            },
            arguments.out / f"{stem}.json",
        )
        write_bytes(markdown(rows, arguments.quality).encode(), arguments.out / f"{stem}.md")
        print(f"{record['name']} {record['nerf_id']}: {record['psnr']:.2f} dB, {record['seconds']:.0f} s", flush=True)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        job = FitJob(
            out=arguments.work or temporary,
            settings=settings,
            seed=arguments.seed,
            batch=arguments.batch,
            device=device,
            on_done=add,
            on_skip=add,
            on_error=lambda error: failed.append(str(error)),
        )
        for start in range(0, len(chosen), arguments.batch):
            if time.perf_counter() - started > arguments.seconds:
                break
            views = ViewSettings(seed=arguments.seed)
            files = chosen[start : start + arguments.batch]
            job.run([source for file in files for source in find_sources(str(file), settings=views)])
    print(markdown(summary(records), arguments.quality), end="")


if __name__ == "__main__":
    main()

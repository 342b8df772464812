"""``llana-gmn inspect``: what a NeRF file holds."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gmn_encoder import build_parameter_graph, find_nerfs, load_nerf
from gmn_encoder.nerfs.record import Nerf

from .base import Command, InputErrors, add_nerf_arguments


def describe(nerf: Nerf) -> dict[str, Any]:
    """Family, architecture, sizes and value ranges of a NeRF, as JSON-ready values."""
    graph = build_parameter_graph(nerf.architecture)
    return {
        "file": str(nerf.source),
        "family": nerf.family,
        "architecture": nerf.architecture.name,
        "sizes": {key: value for key, value in nerf.architecture.to_dict().items() if key != "family"},
        "parameters": nerf.num_parameters,
        "graph": {"nodes": graph.num_nodes, "edges": graph.num_edges},
        "tensors": {
            key: {
                "shape": list(tensor.shape),
                "min": float(tensor.min()),
                "max": float(tensor.max()),
                "mean": float(tensor.mean()),
                "std": float(tensor.std(correction=0)),
            }
            for key, tensor in nerf.tensors.items()
        },
    }


def format_description(values: dict[str, Any]) -> str:
    sizes = ", ".join(f"{key} {value}" for key, value in values["sizes"].items())
    graph = values["graph"]
    lines = [
        values["file"],
        f"  family        {values['family']}",
        f"  architecture  {values['architecture']} ({sizes})",
        f"  parameters    {values['parameters']:,}",
        f"  graph         {graph['nodes']:,} nodes, {graph['edges']:,} edges",
    ]
    lines += [
        f"  {key}  shape {tuple(t['shape'])}, values {t['min']:.4g} to {t['max']:.4g}, mean {t['mean']:.4g}, std {t['std']:.4g}"
        for key, t in values["tensors"].items()
    ]
    return "\n".join(lines)


class InspectCommand(Command):
    name = "inspect"
    help = "show family, architecture, sizes and value ranges of NeRF files, and what is wrong with broken ones"
    example = "llana-gmn inspect nerfs/ --json"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_nerf_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def run(self, arguments: argparse.Namespace) -> int:
        errors = InputErrors(self.name, debug=arguments.debug)
        described = []
        for path in (found for given in arguments.nerfs for found in find_nerfs(given)):
            try:
                values = describe(load_nerf(path, arguments.architecture))
            except (ValueError, OSError) as error:
                errors.add(error)
                continue
            described.append(values)
            if not arguments.json:
                print(format_description(values))
        if arguments.json:
            print(json.dumps(described, indent=2))
        return errors.status

"""``llana-gmn inspect``: what a NeRF file or a field of another program holds, or of which encoder a model or embeddings are."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Command, InputErrors, add_nerf_arguments

if TYPE_CHECKING:
    from gmn_encoder.nerfs.record import Nerf


def describe(nerf: Nerf) -> dict[str, Any]:
    """Family, architecture, sizes and value ranges of a NeRF, as JSON-ready values; the graph is None where a family has none.

    ``field`` is "empty" or "full" where there is nothing to see in it. Raises `ValueError` where the field is not finite.
    """
    from gmn_encoder import build_parameter_graph
    from gmn_encoder.files import named_errors
    from gmn_encoder.nerfs.finite import field_flag

    with named_errors(nerf.name):
        graph = build_parameter_graph(nerf.architecture) if nerf.architecture.has_graph else None
    return {
        "file": str(nerf.source),
        "family": nerf.family,
        "architecture": nerf.architecture.name,
        "sizes": {key: value for key, value in nerf.architecture.to_dict().items() if key != "family"},
        "parameters": nerf.num_parameters,
        "graph": {"nodes": graph.num_nodes, "edges": graph.num_edges} if graph else None,
        "field": field_flag(nerf),
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
        f"  graph         {graph['nodes']:,} nodes, {graph['edges']:,} edges" if graph else "  graph         none",
    ]
    if values["field"]:
        lines.append(f"  field         {values['field']}: there is no object to see in it")
    lines += [
        f"  {key}  shape {tuple(t['shape'])}, values {t['min']:.4g} to {t['max']:.4g}, mean {t['mean']:.4g}, std {t['std']:.4g}"
        for key, t in values["tensors"].items()
    ]
    return "\n".join(lines)


def describe_encoding(path: str) -> dict[str, Any] | None:
    """Of a model, an adapter, an encoder's directory or embeddings, the encoder they have or are of, as JSON-ready values.

    None for anything else. The encoder is None where there is none or nothing tells it; embeddings know its fingerprint alone.
    Raises `ValueError` or `OSError` for what is broken.
    """
    from gmn_encoder.embeddings.files import is_embedding_file, read_embedding, read_embeddings
    from gmn_encoder.encoders.files import CONFIG_NAME

    from ..checkpoints.encoders import foreign_encoder, is_embedding_set, open_encoder
    from ..model.hub import ADAPTER_CONFIG

    place = Path(path)
    if is_embedding_file(place) and place.is_file():
        row = read_embedding(place, tokens=True)
        return {"file": path, "kind": "embeddings", "count": 1, **_row_sizes(row.shape), "encoder": None}
    if is_embedding_set(place) or (place.is_dir() and any(any(place.glob(f"*.{kind}")) for kind in ("h5", "npy"))):
        found = read_embeddings(place)
        encoder = {"fingerprint": found.encoder} if found.encoder else None
        about = {"count": len(found), **_row_sizes(found.row_shape)}
        return {"file": path, "kind": "embeddings", **about, "encoder": encoder}
    if not any((place / name).is_file() for name in (CONFIG_NAME, ADAPTER_CONFIG)):
        return None
    from gmn_encoder.files import named_errors

    with named_errors(path):
        model = _model_of(place)
    if model is not None and not model.use_encoder:
        size = model.embedding_dim
        return {"file": path, "kind": "model", "embedding_dim": size, "llana": model.llana is not None, "encoder": None}
    found_encoder = open_encoder(place)
    return {
        "file": path,
        "kind": "encoder" if model is None else "model",
        "note": foreign_encoder(model) if model is not None else None,
        "embedding_dim": found_encoder.embedding_dim,
        "encoder": {"kind": found_encoder.config.model_type, "fingerprint": found_encoder.fingerprint()},
    }


def _row_sizes(shape: Sequence[int]) -> dict[str, int]:
    """Sizes of an embedding, or of the tokens of a NeRF."""
    return {"embedding_dim": shape[-1], **({"tokens": shape[0]} if len(shape) > 1 else {})}


def _model_of(place: Path) -> Any:
    """The configuration of a model, or of an adapter's base; None for an encoder."""
    from ..checkpoints.encoders import is_model
    from ..model.hub import ADAPTER_CONFIG

    if (place / ADAPTER_CONFIG).is_file() and not (place / "config.json").is_file():
        from ..checkpoints.loading import adapter_base

        place = Path(adapter_base(place))
    elif not is_model(place):
        return None
    from ..model.configuration import LlanaGmnConfig

    return LlanaGmnConfig.from_pretrained(place)


def format_encoding(values: dict[str, Any]) -> str:
    size, encoder = values["embedding_dim"], values["encoder"]
    if encoder is not None:
        known = " ".join(part for part in (encoder.get("kind"), encoder["fingerprint"][:12]) if part)
    elif values["kind"] == "embeddings":
        known = "unknown: the file does not say"
    else:
        known = f"none{' (LLaNA reads embeddings of nf2vec)' if values['llana'] else ''}"
    tokens = f" and {values['tokens']} tokens" if "tokens" in values else ""
    count = f"{values['count']:,} of size {size:,}{tokens}" if "count" in values else f"of size {size:,}"
    lines = [
        values["file"],
        f"  kind          {values['kind']}",
        f"  encoder       {known}",
        f"  embeddings    {count}",
    ]
    if values.get("note"):
        lines.append(f"  note          {values['note']}")
    return "\n".join(lines)


def describe_foreign(path: str) -> dict[str, Any] | None:
    """What a radiance field of another program is, as JSON-ready values; None for anything else.

    Raises `ValueError` for one that is refused or broken.
    """
    from gmn_encoder.nerfs.importers import find_importer, import_field

    place = Path(path)
    return import_field(place).describe() if place.exists() and find_importer(place) is not None else None


def format_foreign(values: dict[str, Any]) -> str:
    low, high = values["box"]
    sizes = ", ".join(f"{key} {value}" for key, value in values["sizes"].items() if value is not None)
    colours = "the same from everywhere"
    if values["view_dependent"]:
        colours = f"depend on the direction; their mean over {values['averaged_directions']} where none is given"
    reach = "" if values["bounded"] else ", and a scene around it"
    lines = [
        values["file"],
        f"  kind          {values['kind']}",
        f"  sizes         {sizes}",
        f"  numbers       {values['numbers']:,}",
        f"  its world     {_point(low)} to {_point(high)}{reach}, up {_point(values['up'])}",
        f"  colours       {colours}",
    ]
    lines += [f"  note          {note}" for note in values["notes"]]
    return "\n".join([*lines, "  to a NeRF     llana-gmn fit FILE --family mlp,triplane,hash --out DIR"])


def _point(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"


def strangers(described: Sequence[dict[str, Any]]) -> list[str]:
    """One sentence for each of some embeddings, and each model or encoder beside them, that certainly do not belong together."""
    sentences = []
    for reader in (each for each in described if each.get("kind") in ("model", "encoder")):
        for made in (each for each in described if each.get("kind") == "embeddings"):
            pair = f"{made['file']} and {reader['file']}: do not belong together"
            if made["embedding_dim"] != reader["embedding_dim"]:
                sentences.append(
                    f"{pair}: embeddings of size {made['embedding_dim']}, and {reader['embedding_dim']} expected"
                )
            elif made["encoder"] and reader["encoder"]:
                one, other = (each["encoder"]["fingerprint"] for each in (made, reader))
                if one != other:
                    sentences.append(f"{pair}: made by encoder {one[:12]}, and {other[:12]} expected")
    return sentences


class InspectCommand(Command):
    name = "inspect"
    help = (
        "show family, architecture, sizes and value ranges of NeRF files, what is wrong with broken ones, and what radiance "
        "fields of other programs are; of which "
        "encoder models and embeddings are, and whether those given belong together"
    )
    example = "llana-gmn inspect nerfs/ --json"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_nerf_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def run(self, arguments: argparse.Namespace) -> int:
        errors = InputErrors(self.name, debug=arguments.debug)
        described: list[dict[str, Any]] = []
        for given in arguments.nerfs:
            try:
                values, show = describe_encoding(given), format_encoding
                if values is None:
                    values, show = describe_foreign(given), format_foreign
            except (ValueError, OSError) as error:
                errors.add(error)
                continue
            if values is not None:
                described.append(values)
                if not arguments.json:
                    print(show(values))
                continue
            described += self._nerfs(given, arguments, errors)
        if arguments.json:
            print(json.dumps(described, indent=2))
        for sentence in strangers(described):
            errors.add(sentence)
        return errors.status

    def _nerfs(self, given: str, arguments: argparse.Namespace, errors: InputErrors) -> list[dict[str, Any]]:
        from gmn_encoder.nerfs.files import find_nerfs, load_nerf

        described = []
        for path in find_nerfs(given):
            try:
                values = describe(load_nerf(path, arguments.architecture))
            except (ValueError, OSError) as error:
                errors.add(error)
                continue
            described.append(values)
            if not arguments.json:
                print(format_description(values))
        return described

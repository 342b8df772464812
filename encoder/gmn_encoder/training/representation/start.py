"""A start from weights: those of a released checkpoint, of one of ours, or of an encoder alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...encoders.decoder import NerfDecoder
from ...encoders.gmn.config import GmnConfig
from ...encoders.gmn.encoder import GmnEncoder
from ...files import StrPath, read_tensors
from ..checkpoint import TRAINER_NAME
from .model import TrainedModel


def start_from(model: TrainedModel, source: StrPath) -> list[str]:
    """Take over weights as far as the source has them.

    Args:
        model: the model whose parts are overwritten.
        source: a ``.pt`` file, a ``trainer.pth``, or a directory of either kind.

    Returns:
        the names of the parts taken over.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no weights, or of other sizes than the recipe's.
    """
    path = Path(source)
    if path.is_dir() and (path / TRAINER_NAME).is_file():
        path = path / TRAINER_NAME
    encoder = GmnEncoder.from_pretrained(path)
    # A recipe has 0 where a configuration has None.
    configs = (model.recipe.encoder_config, encoder.config)
    wanted, found = ({key: value or 0 for key, value in asdict(config).items()} for config in configs)
    untold = {"layout", "token_pool", *GmnConfig.OPTIONS}  # weights do not tell them: the recipe does
    if not encoder.config.graph and model.recipe.graph:
        # Probes that learnt alone, which a graph network joins.
        untold |= {"graph", "hidden_dim", "num_layers", "readout_dim", "readout_families"}
    wrong = [key for key in wanted if wanted[key] != found[key] and key not in untold]
    if wrong:
        raise ValueError(
            f"{path}: its encoder has {wrong[0]} {found[wrong[0]]}, the recipe has {wanted[wrong[0]]}; "
            f"set {wrong[0]}={found[wrong[0]]}"
        )
    model.encoder.load_state_dict({**model.encoder.state_dict(), **encoder.state_dict()})
    taken = ["encoder" if encoder.config.graph or not model.recipe.graph else "probes"]
    if model.recipe.freeze == "encoder":  # a new decoder for it
        return taken
    content = read_tensors(path)[0] if path.is_file() else {}
    if model.decoder is not None and isinstance(content.get("decoder"), Mapping):
        _take_decoder(model, content["decoder"], path)
        taken.append("decoder")
    for name, part in (("infonce", model.infonce), ("cell_decoder", model.cell_decoder)):
        if part is not None and isinstance(content.get(name), Mapping):
            try:
                part.load_state_dict(dict(content[name]))
            except RuntimeError as error:
                raise ValueError(f"{path}: its {name} part is of another size than the recipe's") from error
            taken.append(name)
    if model.siglip is not None and isinstance(content.get("siglip"), Mapping):
        try:
            model.siglip.load_state_dict(dict(content["siglip"]))
        except RuntimeError as error:
            raise ValueError(f"{path}: its siglip part holds no scale and shift") from error
        taken.append("siglip")
    return taken


def _take_decoder(model: TrainedModel, state: Mapping[str, Any], path: Path) -> None:
    wanted = model.recipe.decoder_config
    try:
        decoder = NerfDecoder.from_state_dict(state, embedding_dim=wanted.embedding_dim)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    found = decoder.config
    for setting, got, expected in (
        ("decoder_dim", found.hidden_dim, wanted.hidden_dim),
        ("decoder_frequencies", found.frequencies, wanted.frequencies),
    ):
        if got != expected:
            raise ValueError(f"{path}: its decoder has {setting} {got}, the recipe has {expected}; set {setting}={got}")
    if model.decoder is not None:
        model.decoder.load_state_dict(decoder.state_dict())

"""What the encoder's benchmarks share on the command line: embedding files, or a data set and an encoder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .base import InputErrors, process_state, stage_progress

if TYPE_CHECKING:
    from gmn_encoder.embeddings.records import EmbeddingSet
    from gmn_encoder.encoders.base import NerfEncoder

FILE_HELP = ".safetensors, .npz or directory of .h5 files as llana-gmn embed writes them, or FAMILY=FILE"


def add_embedding_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for embedding a data set on the way."""
    parser.add_argument(
        "--data", metavar="DIR", help="data set: <family>/<class>/<nerf>, with train.txt, val.txt, test.txt"
    )
    parser.add_argument(
        "--encoder", metavar="ENC", help="encoder or model, directory or hub name, or released .pt, for --data"
    )
    parser.add_argument(
        "--families", metavar="NAMES", help="directories of --data (default: those of mlp,triplane,hash)"
    )
    parser.add_argument(
        "--keep",
        default="embeddings",
        metavar="DIR",
        help="where embeddings of --data are kept, by encoder and content: what changed is embedded anew (default: embeddings)",
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="NeRFs embedded at a time (default: 8)")


def read_families(names: Sequence[str], *, tokens: bool = False) -> dict[str, EmbeddingSet]:
    """The embeddings of files, by family: the paper's in its order, then others as they come.

    Raises `ValueError` for a file of tokens where `tokens` is off: NeRFs are compared by one vector each.
    """
    from gmn_encoder.embeddings.files import read_embeddings
    from gmn_encoder.embeddings.records import join_embeddings, shape_text
    from gmn_encoder.nerfs.architectures import FAMILY_NAMES

    sets = []
    for name in names:
        family, sign, file = name.partition("=")
        named = bool(sign and family) and not Path(name).exists()
        sets.append(read_embeddings(file, family=family) if named else read_embeddings(name))
        if not tokens and len(sets[-1].row_shape) > 1:
            raise ValueError(
                f"{file}: holds {shape_text(sets[-1].row_shape)} tokens a NeRF; expected one vector: embed without --tokens"
            )
    found = join_embeddings(sets).by_family()
    order = [*FAMILY_NAMES.values(), *found]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def embed_families(
    arguments: argparse.Namespace,
    splits: Sequence[str],
    errors: InputErrors,
    *,
    encoder: NerfEncoder | None = None,
    tokens: bool = False,
) -> list[dict[str, EmbeddingSet]]:
    """The embeddings of splits of ``--data``, by family; what cannot be read is named in `errors`.

    They are those of `encoder`, or of ``--encoder``; with `tokens` all tokens of each NeRF.
    """
    from gmn_encoder.embeddings.cache import EmbeddingCache
    from gmn_encoder.nerfs.architectures import FAMILY_NAMES

    from ..checkpoints.encoders import open_encoder

    if arguments.encoder is None and encoder is None:
        raise ValueError("--data needs an encoder to embed its NeRFs with; name one with --encoder")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {arguments.batch_size}")
    data = Path(arguments.data)
    given = [name.strip() for name in (arguments.families or "").split(",") if name.strip()]
    families = given or [name for name in FAMILY_NAMES if (data / name).is_dir()]
    if not families:
        raise ValueError(f"{data}: holds none of {', '.join(FAMILY_NAMES)}; name its directories with --families")
    encoder = encoder or open_encoder(arguments.encoder).to(process_state().device)
    cache = EmbeddingCache(arguments.keep, encoder, batch_size=arguments.batch_size, tokens=tokens)
    found: list[dict[str, EmbeddingSet]] = []
    with stage_progress() as progress:
        for split in splits:
            sets: dict[str, EmbeddingSet] = {}
            for family in families:
                members = cache.embed_family(
                    data / family,
                    split=split,
                    progress=lambda what, done, total, of=f"{family} {split}": progress(f"{what}, {of}", done, total),  # type: ignore[misc]
                )
                sets.update(members.by_family())
                for message in members.problems:
                    errors.add(message)
            found.append(sets)
    return found


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """The numbers of ``1,5,10``. Raises `ValueError` naming the option."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} is {text!r}; expected whole numbers as in 1,5,10") from None

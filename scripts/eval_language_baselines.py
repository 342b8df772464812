"""Does a model name the classes of unseen objects? Beside it: the same model without a NeRF, and the nearest training caption.

    python scripts/eval_language_baselines.py --model runs/small --data data --out naming.json
    python scripts/eval_language_baselines.py --model runs/no-hash --data data --families hash     # a family held out

Prints a Markdown table of accuracies in per cent, and writes them with all captions to --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from gmn_encoder.files import read_json, write_json
from llana_eval.captioning.class_naming import QUESTION, NamedObject, classes_of, compare_with_baselines, to_markdown
from llana_gmn.caption import caption_nerfs
from llana_gmn.data.sources import LanguageData
from llana_gmn.loading import load_model
from llana_gmn.training.recipe import TrainingRecipe


def named_objects(data: LanguageData, split: str) -> list[NamedObject]:
    """The objects of a split in every variant, each with its brief description."""
    dialogues, _ = data.dialogues(split, ["brief_description"])
    captions = {each.object_ids[0]: each.turns[0][1] for each in dialogues if each.object_ids}
    table = data.table(split, list(captions))
    classes = classes_of(table.rows)
    return [
        NamedObject(object_id, variant, classes[object_id], table.values[row], captions[object_id])
        for object_id in captions
        if object_id in classes
        for variant, row in table.rows.get(object_id, {}).items()
        if data.families is None or variant in data.families
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="directory of texts and NeRFs")
    parser.add_argument("--embeddings", nargs="*", default=[], metavar="FAMILY=FILE", help="of llana-gmn embed")
    parser.add_argument("--families", nargs="*", help="to ask about (default: all); the nearest caption may be of any")
    parser.add_argument(
        "--recipe", help="of the run, for its embeddings, architectures and cache (default: the model's)"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    model, processor = load_model(arguments.model)
    recipe = TrainingRecipe()
    if file := next(
        (f for f in (arguments.recipe, Path(arguments.model) / "recipe.json") if f and Path(f).is_file()), None
    ):
        recipe = TrainingRecipe.from_dict(read_json(file), source=str(file))
    files = dict(pair.split("=", 1) for pair in arguments.embeddings) or recipe.embeddings
    cache = Path(recipe.cache) if recipe.cache else None
    place = {"embeddings": files, "encoder": model.nerf_encoder, "cache": cache, "architectures": recipe.architectures}
    asked = LanguageData(
        Path(arguments.data), families=tuple(arguments.families) if arguments.families else None, **place
    )
    objects = named_objects(asked, arguments.split)
    training = named_objects(LanguageData(Path(arguments.data), **place), "train")

    def caption(embeddings: list[torch.Tensor]) -> list[str]:
        options = {"question": arguments.question, "batch_size": arguments.batch_size, "max_new_tokens": 48}
        return [text for _, text in caption_nerfs(model, processor, embeddings, **options)]

    results = compare_with_baselines(caption, objects, training)
    print(f"{len(objects)} unseen samples, {len(training)} to copy from; share of captions that name the class (%)\n")
    print(to_markdown(results))
    if arguments.out:
        write_json({"model": arguments.model, "question": arguments.question, **results}, arguments.out)


if __name__ == "__main__":
    main()

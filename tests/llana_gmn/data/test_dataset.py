"""Labels, placeholders, lengths and what is left out. The reference for labels is LLaNA's own rule
(docs/released_format.md#labels)."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import LlamaTokenizer

from gmn_encoder.embeddings.records import EmbeddingSet
from llana_gmn.assembly.tiny import tiny_tokenizer
from llana_gmn.data.collator import ConversationCollator
from llana_gmn.data.conversations import read_conversations
from llana_gmn.data.dataset import IGNORED, ConversationDataset, Dialogue, encode_dialogues
from llana_gmn.model.nerf_inputs import EMBEDDING, NOTHING
from llana_gmn.model.processing import LlanaGmnProcessor
from llana_gmn.prompts.chat_template import SYSTEM_PROMPT


@pytest.fixture(scope="module")
def llana_processor():
    """A tokenizer that places spaces as LLaNA's does: in front of every piece between special tokens."""
    plain = tiny_tokenizer()
    state = json.loads(plain.backend_tokenizer.to_str())["model"]
    tokenizer = LlamaTokenizer(
        vocab=state["vocab"],
        merges=[tuple(merge) for merge in state["merges"]],
        pad_token="<unk>",
        add_bos_token=True,
        legacy=True,
    )
    tokenizer.add_tokens(["<point_patch>", "<point_start>", "<point_end>"], special_tokens=True)
    return LlanaGmnProcessor(tokenizer, embedding_dim=32)


def llana_labels(tokenizer, text, max_length=2048):
    """docs/released_format.md#labels, step by step, with "cut by counting the tokens of pieces" as LLaNA does it."""
    ids = tokenizer(text)["input_ids"][:max_length]
    labels = list(ids)
    labels[0] = IGNORED
    cursor = 1
    for part in text.split("</s>"):
        if part == "" or part.count(" ASSISTANT: ") != 1:
            break
        question = part.split(" ASSISTANT: ")[0] + " ASSISTANT: "
        r, k = len(tokenizer(part)["input_ids"]), len(tokenizer(question)["input_ids"]) - 2
        labels[cursor : cursor + k] = [IGNORED] * k
        cursor += r
    labels[cursor:] = [IGNORED] * len(labels[cursor:])
    if cursor < max_length and cursor != sum(i != tokenizer.unk_token_id for i in ids):  # the unknown token pads
        labels = [IGNORED] * len(ids)
    return ids, labels


def llana_text(turns):
    """docs/released_format.md#prompt: of (question, answer) pairs as they stand in the data."""
    return f"{SYSTEM_PROMPT} " + "".join(
        f"USER: {question.replace('<point>', '<point_start><point_patch><point_end>')} ASSISTANT: {answer}</s>"
        for question, answer in turns
    )


WORDS = st.lists(
    st.sampled_from(["chair", "red", "What", "is", "this", "a", "table.", "No,", "two", "légs", "42", "(metal)"]),
    min_size=1,
    max_size=6,
).map(" ".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_labels_are_llanas(llana_processor, turns):
    ((ids, mask),) = encode_dialogues([Dialogue(("thing",), tuple(turns))], llana_processor)
    text = llana_text([(f"<point>\n{turns[0][0]}", turns[0][1]), *turns[1:]])
    expected_ids, expected = llana_labels(llana_processor.tokenizer, text)
    assert max(expected) > 0
    assert ids == expected_ids
    assert [token if seen else IGNORED for token, seen in zip(ids, mask, strict=True)] == expected


def table(rows, dim=32):
    """Object -> variants; embedding number i is full of i."""
    ids, variants = zip(
        *((("", name), variant) for name, variants in rows.items() for variant in variants), strict=True
    )
    return EmbeddingSet(torch.arange(len(ids)).float()[:, None].repeat(1, dim), ids, variants)


def dialogue(*answers, objects=("a",), question="What is it?"):
    return Dialogue(objects, tuple((question, answer) for answer in answers), "single_round", "texts.json", 7)


def read_dataset(processor, tmp_path, values, **options):
    """Messages of one entry, human first unless there is an odd number of them, beside a good entry."""
    speakers = ["gpt", "human"] if len(values) % 2 else ["human", "gpt"]
    messages = [{"from": speakers[place % 2], "value": value} for place, value in enumerate(values)]
    good = [{"from": "human", "value": "<point>\nWhat?"}, {"from": "gpt", "value": "Fine."}]
    about = {"object_id": "a", "conversation_type": "single_round"}
    path = tmp_path / "texts.json"
    path.write_text(json.dumps([{**about, "conversations": each} for each in (messages, good)]))
    read = read_conversations(path)
    said = [Dialogue.from_conversation(each, path=str(path)) for each in read]
    return ConversationDataset(said, table({"a": ["mlp"]}), processor=processor, **options)


ODD_TEXTS = {
    ("<point> What is it?", "A chair."): ["a placeholder without newline"],
    ("What is <point>?", "A chair."): ["a placeholder in mid-text"],
    ("<point>\nCompare <point> with itself.", "It is the same."): ["several placeholders"],
    ("What is a chair?", "A seat.", "Is <point> one?", "No."): ["a placeholder in a later turn"],
    ("<point>\nWhat?", "A chair.", "And <point>\nnow?", "Too."): [
        "a placeholder in a later turn",
        "several placeholders",
    ],
    ("Hello there.", "<point>\nWhat is it?", "A chair."): ["an answer first"],
    ("<point>\n What is it?  ", "  A chair. "): [],
}


@pytest.mark.parametrize("values", ODD_TEXTS)
def test_odd_dialogues_are_trained_as_llana_trains_them(llana_processor, tmp_path, values):
    dataset = read_dataset(llana_processor, tmp_path, values)
    asked = values[len(values) % 2 :]
    text = llana_text(list(zip(asked[::2], asked[1::2], strict=True)))
    ids, labels = llana_labels(llana_processor.tokenizer, text)
    sample = dataset[0]
    assert max(labels) > 0  # LLaNA learns from it
    assert (sample["input_ids"].tolist(), sample["labels"].tolist()) == (ids, labels)
    # At every start token stands the one object.
    assert len(sample["nerfs"]) == ids.count(llana_processor.nerf_token_id) > 0
    assert dataset.counts == dict.fromkeys(ODD_TEXTS[values], 1)
    assert not any(problem.left_out for problem in dataset.problems)
    strict = read_dataset(llana_processor, tmp_path, values, strict=True)
    assert len(strict) == (1 if ODD_TEXTS[values] else 2)
    assert strict.counts == dataset.counts and all(problem.left_out for problem in strict.problems)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (("<point>\nWhat does ASSISTANT: mean?", "A name."), "' ASSISTANT: ' in a text"),
        (("<point>\nWhat is it?", "It says ASSISTANT: I do."), "' ASSISTANT: ' in a text"),
        (("<point>\nWhat </s> is it?", "A chair."), "</s> in a text"),
        (("<point>\nWhat is it?", "A chair.", "And?", "A </s> chair."), "</s> in a text"),
        (("<point>\nWhat is it?", "A chair.</s>"), "</s> in a text"),
        (("<point>\nWhat is <unk>?", "A chair."), "<unk> in a text"),
        (("<point>\nWhat is it?", "A <unk> chair."), "<unk> in a text"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_dialogues_that_llana_masks_whole_are_left_out(llana_processor, tmp_path, values, kind, strict):
    text = llana_text(list(zip(values[::2], values[1::2], strict=True)))
    assert set(llana_labels(llana_processor.tokenizer, text)[1]) == {IGNORED}
    dataset = read_dataset(llana_processor, tmp_path, values, strict=strict)
    assert len(dataset) == 1 and dataset.counts == {kind: 1} and dataset.problems[0].left_out


def test_labels_are_the_answers_and_their_ends(processor):
    dataset = ConversationDataset([dialogue("A red chair.", "It is red.")], table({"a": ["mlp"]}), processor=processor)
    sample = dataset[0]
    learned = sample["labels"][sample["labels"] != IGNORED]
    assert (
        processor.tokenizer.decode(learned, skip_special_tokens=False).replace(" ", "") == "Aredchair.</s>Itisred.</s>"
    )
    assert (sample["labels"] == processor.tokenizer.eos_token_id).sum() == 2
    assert dataset.lengths.tolist() == [len(sample["input_ids"])]
    assert dataset.supervised.tolist() == [len(learned)]


def test_an_object_is_a_sample_in_each_variant(processor):
    rows = table({"a": ["mlp", "hash"], "b": ["hash"], "c": ["triplane"]})
    said = [dialogue("One.", objects=(name,)) for name in "abc"]
    dataset = ConversationDataset(said, rows, processor=processor)
    assert [dataset.sample(i)[1] for i in range(len(dataset))] == ["mlp", "hash", "hash", "triplane"]
    assert [dataset[i]["nerfs"][0][0].item() for i in range(4)] == [0, 1, 2, 3]
    only = ConversationDataset(said, rows, processor=processor, variants=("hash",))
    assert [only[i]["nerfs"][0][0].item() for i in range(len(only))] == [1, 2]
    assert [str(problem) for problem in only.problems] == [
        "texts.json: entry 7: single_round of c has no embedding as hash; embed its NeRF, or take it out of the texts"
    ]
    assert len(ConversationDataset(said, rows, processor=processor, limit=2)) == 2


def test_several_nerfs_and_none_in_one_batch(processor):
    rows = table({"a": ["mlp"], "b": ["mlp"]})
    said = [dialogue("Both.", objects=("b", "a")), dialogue("Hello there.", objects=()), dialogue("One.", "Two.")]
    dataset = ConversationDataset(said, rows, processor=processor)
    batch = ConversationCollator(processor.tokenizer.pad_token_id, (32,))([dataset[i] for i in range(3)])
    assert (batch["input_ids"] == processor.nerf_token_id).sum(dim=1).tolist() == [2, 0, 1]
    assert batch["nerf_embeddings"][:, :, 0].tolist() == [[1, 0], [0, 0], [0, 0]]
    assert batch["nerf_architectures"][..., 0].tolist() == [[EMBEDDING] * 2, [NOTHING] * 2, [EMBEDDING, NOTHING]]


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (dialogue("x", objects=("gone",)), "no embedding", "of gone has no embedding"),
        (dialogue("An <image> of it."), "an unknown placeholder", "has <image> in its text"),
        (dialogue("And <point> now?"), "an unknown placeholder", "has <point> in its text"),
        (dialogue("x", question="<point>?", objects=("a", "a")), "an unknown placeholder", "has <point> in its text"),
        (dialogue("x", question="<point>?", objects=()), "an unknown placeholder", "has <point> in its text"),
        (dialogue("x", question="A long question " * 30), "too many tokens", "would cut every answer"),
        (dialogue(), "no turns", "has no question and answer"),
    ],
)
def test_what_cannot_be_used_is_listed(processor, said, kind, words):
    good = dialogue("Fine.")
    dataset = ConversationDataset([said, good], table({"a": ["mlp"]}), processor=processor, max_length=120)
    assert len(dataset) == 1
    assert dataset.counts == {kind: 1}
    assert words in str(dataset.problems[0])
    assert str(dataset.problems[0]).startswith("texts.json: entry 7: single_round")
    with pytest.raises(ValueError, match=f"nothing to train on.*{words.split()[-1]}"):
        ConversationDataset([said], table({"a": ["mlp"]}), processor=processor, max_length=120)


def test_truncation_cuts_the_end_only(processor):
    long = dialogue("Short.", "A long answer " * 40)
    whole = ConversationDataset([long], table({"a": ["mlp"]}), processor=processor)
    cut = ConversationDataset([long], table({"a": ["mlp"]}), processor=processor, max_length=110)
    assert torch.equal(cut[0]["input_ids"], whole[0]["input_ids"][:110])
    assert torch.equal(cut[0]["labels"], whole[0]["labels"][:110])
    assert cut.counts == {"a cut end": 1}
    assert [problem.left_out for problem in cut.problems] == [False]
    strict = ConversationDataset(
        [long, dialogue("Short.")], table({"a": ["mlp"]}), processor=processor, max_length=110, strict=True
    )
    assert len(strict) == 1 and strict.counts == cut.counts and strict.problems[0].left_out
    # A placeholder is never cut: LLaNA's prompt alone is longer than 40 tokens of this vocabulary.
    with pytest.raises(ValueError, match=r"has .* tokens, max_length is 20, which would cut a NeRF's placeholder"):
        ConversationDataset([long], table({"a": ["mlp"]}), processor=processor, max_length=20)


def test_ambiguous_ids_need_their_class(processor):
    rows = EmbeddingSet(torch.zeros(2, 32), (("1", "a"), ("2", "a")), ("mlp", "mlp"))
    dataset = ConversationDataset([dialogue("x"), dialogue("x", objects=("2/a",))], rows, processor=processor)
    assert len(dataset) == 1
    assert dataset.counts == {"an ambiguous object": 1}


def test_embeddings_of_another_size(processor):
    with pytest.raises(ValueError, match="embeddings have size 16; this model's projector reads 32"):
        ConversationDataset([dialogue("x")], table({"a": ["mlp"]}, dim=16), processor=processor)

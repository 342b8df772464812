from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate
from transformers import AutoProcessor, AutoTokenizer

from gmn_encoder.nerfs.files import save_nerf
from llana_gmn import ChatSession, LlanaGmnProcessor, caption_nerfs, default_model_path, load_model
from llana_gmn.assembly.tiny import tiny_tokenizer
from llana_gmn.model.processing import add_nerf_tokens
from llana_gmn.prompts.chat_template import CHATML_TEMPLATE, PLAIN_TEMPLATE, VICUNA_TEMPLATE

# docs/released_format.md#prompt, written out.
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def user(*content):
    return {"role": "user", "content": list(content)}


def text(value):
    return {"type": "text", "text": value}


def decode(processor, features, row=0):
    return processor.tokenizer.decode(features["input_ids"][row])


def test_placeholders_become_llanas_tokens(processor, nerfs):
    for placeholder in ("<nerf>", "<point>", "<point_start><point_patch><point_end>"):
        features = processor(nerfs=nerfs[:1], text=[placeholder + "\nWhat is it?"], return_tensors="pt")
        assert decode(processor, features) == "<s><point_start><point_patch><point_end>\nWhat is it?"
        assert features["nerf_architectures"].shape[:2] == (1, 1)


def test_vicuna_prompt_byte_for_byte(processor, nerfs):
    first = user({"type": "nerf", "nerf": nerfs[0]}, text("What is this?"))
    assert processor.apply_chat_template([first], add_generation_prompt=True) == (
        f"{SYSTEM} USER: <nerf>\nWhat is this? ASSISTANT:"
    )
    turns = [first, {"role": "assistant", "content": "A chair."}, {"role": "user", "content": "Sure?"}]
    assert processor.apply_chat_template(turns, add_generation_prompt=True) == (
        f"{SYSTEM} USER: <nerf>\nWhat is this? ASSISTANT: A chair.</s>USER: Sure? ASSISTANT:"
    )
    turns.append({"role": "assistant", "content": "Yes."})
    assert processor.apply_chat_template(turns) == (
        f"{SYSTEM} USER: <nerf>\nWhat is this? ASSISTANT: A chair.</s>USER: Sure? ASSISTANT: Yes.</s>"
    )
    ids = processor.apply_chat_template([first], add_generation_prompt=True, tokenize=True, return_dict=True)[
        "input_ids"
    ]
    assert processor.tokenizer.decode(ids[0]) == (
        f"<s> {SYSTEM} USER: <point_start><point_patch><point_end>\nWhat is this? ASSISTANT:"
    )


def test_system_message_and_roles(processor):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == "Be brief. USER: Hi ASSISTANT:"
    with pytest.raises(Exception, match="role tool"):
        processor.apply_chat_template([{"role": "tool", "content": "x"}])
    with pytest.raises(ValueError, match="content of type 'image'"):
        processor.apply_chat_template([user({"type": "image", "url": "x"})])
    with pytest.raises(ValueError, match="has 0 of the keys"):
        processor.apply_chat_template([user({"type": "nerf"})])


def test_conversations_in_a_batch(processor, nerfs, tmp_path):
    save_nerf(nerfs[1], tmp_path / "a.safetensors")
    conversations = [
        [
            user(
                {"type": "nerf", "path": str(tmp_path / "a.safetensors")},
                {"type": "nerf", "nerf": nerfs[0]},
                text("Taller?"),
            )
        ],
        [{"role": "user", "content": "Hello"}],
    ]
    features = processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert features["nerf_architectures"][..., 0].tolist() == [[1, 1], [0, 0]]
    assert (features["input_ids"] == processor.nerf_token_id).sum(1).tolist() == [2, 0]
    assert features["attention_mask"][0].all()
    assert features["attention_mask"][1, -1] == 1  # padded on the left
    assert features["attention_mask"][1, 0] == 0
    single = processor.apply_chat_template(conversations[1], add_generation_prompt=True, tokenize=True)
    assert features["input_ids"][1][features["attention_mask"][1].bool()].tolist() == single[0]


def test_backbone_template_on_request(tmp_path, nerfs):
    tokenizer = tiny_tokenizer()
    own = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    own += "{% if add_generation_prompt %}[assistant]{% endif %}"
    tokenizer.chat_template = own
    add_nerf_tokens(tokenizer)
    processor = LlanaGmnProcessor(tokenizer, embedding_dim=32)
    processor.save_pretrained(tmp_path)
    for each in (processor, AutoProcessor.from_pretrained(tmp_path)):
        assert isinstance(each, LlanaGmnProcessor)
        messages = [user({"type": "nerf", "nerf": nerfs[0]}, text("Hm?"))]
        assert each.apply_chat_template(messages, chat_template="backbone", add_generation_prompt=True) == (
            "[user]<nerf>\nHm?[assistant]"
        )
        assert each.apply_chat_template(messages).startswith(SYSTEM)
        assert (
            each.apply_chat_template([{"role": "user", "content": "Hi"}], chat_template="{{ messages|length }}") == "1"
        )
        with pytest.raises(ValueError, match="no chat template 'bakcbone'; this processor has 'backbone', 'default'"):
            each.apply_chat_template(messages, chat_template="bakcbone")


READS_STRINGS = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
READS_PARTS = READS_STRINGS.replace(
    "{{ '[' + m['role'] + ']' + m['content'] }}",
    "[{{ m['role'] }}]{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}",
)
READS_NERFS = READS_PARTS.replace(
    "{% if part['type'] == 'text' %}", "{% if part['type'] == 'nerf' %}<nerf> {% elif part['type'] == 'text' %}"
)


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (READS_STRINGS, "<nerf>\nHm?"),
        (READS_STRINGS.replace("m['content']", "m['content'] | trim"), "<nerf>\nHm?"),
        (READS_PARTS, "<nerf>\nHm?"),
        (READS_NERFS, "<nerf> Hm?"),
    ],
    ids=["strings", "strings, trimmed", "parts", "parts and NeRFs"],
)
def test_content_is_given_as_a_template_reads_it(processor, nerfs, template, written):
    shown = {"type": "nerf", "nerf": nerfs[0]}
    said = [user(text("Hello")), {"role": "assistant", "content": "Yes?"}, user(shown, text("Hm?"))]
    for messages in (said, [{"role": "user", "content": "Hello"}, {**said[1], "content": [text("Yes?")]}, said[2]]):
        prompt = processor.apply_chat_template(messages, chat_template=template, add_generation_prompt=True)
        assert prompt == f"[user]Hello[assistant]Yes?[user]{written}[assistant]"
        inputs = processor.apply_chat_template(messages, chat_template=template, tokenize=True, return_dict=True)
        assert inputs["input_ids"][0].count(processor.nerf_token_id) == 1
    # NeRFs that the caller brings later, to places in a string.
    asked = [{"role": "user", "content": "<nerf>Hm?"}]
    assert processor.apply_chat_template(asked, chat_template=template) == "[user]<nerf>Hm?"


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages|length }}",
        READS_STRINGS.replace("messages %}", "messages[1:] %}"),
        READS_PARTS.replace("part['text']", "part['text'] | replace('<', '')"),
    ],
    ids=["no content", "not the first message", "no angle bracket"],
)
def test_a_template_without_a_place_for_nerfs_is_refused(processor, nerfs, template):
    messages = [user({"type": "nerf", "nerf": nerfs[0]}, text("Hm?"))]
    for tokenize in (False, True):
        with pytest.raises(
            ValueError, match=r"wrote 0 of the conversation's 1 NeRFs into the prompt; use one with a place"
        ):
            processor.apply_chat_template(messages, chat_template=template, tokenize=tokenize)


@pytest.mark.parametrize("template", [VICUNA_TEMPLATE, PLAIN_TEMPLATE], ids=["vicuna", "plain"])
def test_the_tokenizer_writes_our_templates_as_the_processor_does(tiny, nerfs, template, tmp_path):
    model, processor = tiny
    LlanaGmnProcessor(processor.tokenizer, chat_template=template, embedding_dim=32).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    parts = [
        {"role": "system", "content": [text("Be brief.")]},
        user({"type": "nerf", "nerf": nerfs[0]}, text("What is it?"), "!"),
        {"role": "assistant", "content": [text("A chair.")]},
        {"role": "user", "content": None},
    ]
    strings = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<nerf>\nWhat is it?!"},
        {"role": "assistant", "content": "A chair."},
        {"role": "user", "content": ""},
    ]
    written = "Be brief. USER: <nerf>\nWhat is it?! ASSISTANT: A chair.</s>USER:  ASSISTANT:"
    tokens = written.replace("<nerf>", processor.nerf_text)
    for messages, of_tokenizer in ((parts, tokens), (strings, written)):
        said = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert said == of_tokenizer
        assert processor.apply_chat_template(messages, add_generation_prompt=True, chat_template=template) == written
    ids = tokenizer.apply_chat_template(parts, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    asked = {"add_generation_prompt": True, "tokenize": True, "chat_template": template, "add_special_tokens": False}
    assert processor.apply_chat_template(parts, **asked) == ids["input_ids"].tolist()
    with pytest.raises(ValueError, match="hold 1 NeRF placeholders, but 0 NeRFs were passed"):
        model.generate(**ids)  # what tools that know no processor would ask in silence
    with pytest.raises(Exception, match="content of type image; expected text or nerf"):
        tokenizer.apply_chat_template([user({"type": "image"})])


def test_chatml_with_nerfs(processor, nerfs):
    said = [
        user({"type": "nerf", "nerf": nerfs[0]}, text("What is it?")),
        {"role": "assistant", "content": "A chair."},
        {"role": "user", "content": "Why?"},
    ]
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    asked = "<|im_start|>user\n<nerf>\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA chair.<|im_end|>\n"
    again = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    options = {"add_generation_prompt": True, "chat_template": CHATML_TEMPLATE}
    assert processor.apply_chat_template(said, **options) == system + asked + again
    own = [{"role": "system", "content": "Be brief."}, *said]
    assert processor.apply_chat_template(own, **options).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user"
    )
    learned = processor.apply_chat_template(
        said, chat_template=CHATML_TEMPLATE, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    words = [i for i, kept in zip(learned["input_ids"][0], learned["assistant_masks"][0], strict=True) if kept]
    assert processor.tokenizer.decode(words).strip() == "A chair.<|im_end|>"
    assert (default_model_path() / "chat_template.jinja").read_text() == CHATML_TEMPLATE  # the model that ships has it


def test_assistant_masks_cover_answers_and_their_end(processor, nerfs):
    turns = [
        user({"type": "nerf", "nerf": nerfs[0]}, {"type": "nerf", "nerf": nerfs[0]}, text("Which?")),
        {"role": "assistant", "content": "The first one."},
        {"role": "user", "content": "Why? <x>"},
        {"role": "assistant", "content": "It is taller."},
    ]
    features = processor.apply_chat_template(
        turns, tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )
    said = features["input_ids"][0][features["assistant_masks"][0].bool()]
    assert processor.tokenizer.decode(said) == "The first one.</s> It is taller.</s>"
    assert "offset_mapping" not in features


def test_nested_flat_and_single_nerfs_agree(processor, nerfs):
    prompts = ["<nerf> a", "b", "<nerf><nerf> c"]
    flat = processor(nerfs=nerfs, text=prompts, return_tensors="pt")
    nested = processor(nerfs=[[nerfs[0]], [], [nerfs[1], nerfs[2]]], text=prompts, return_tensors="pt")
    assert flat.keys() == nested.keys()
    assert all(torch.equal(flat[key], nested[key]) for key in flat)
    single = processor(nerfs=nerfs[0], text="<nerf> a", return_tensors="pt")
    assert torch.equal(single["nerf_weights"][0], flat["nerf_weights"][0, : nerfs[0].num_parameters])


def test_embeddings_of_all_kinds(processor, tmp_path):
    import h5py

    rows = np.random.default_rng(0).random((2, 32), dtype=np.float32)
    np.save(tmp_path / "z.npy", rows[:1])
    with h5py.File(tmp_path / "z.h5", "w") as file:
        file["embedding"] = rows[0]
    for given in (
        rows[0],
        torch.tensor(rows[:1]),
        tmp_path / "z.npy",
        str(tmp_path / "z.h5"),
        rows[0].astype(np.float64),
    ):
        features = processor(nerfs=[given], text="<nerf> a", return_tensors="pt")
        assert torch.equal(features["nerf_embeddings"], torch.tensor(rows[None, :1]))
        assert "nerf_weights" not in features
    both = processor(nerfs=rows, text=["<nerf>", "<nerf>"], return_tensors="pt")
    assert torch.equal(both["nerf_embeddings"][:, 0], torch.tensor(rows))


@pytest.mark.parametrize(
    ("count", "prompts", "message"),
    [
        (2, ["<nerf> a"], "2 NeRFs were passed for 1 placeholders"),
        (1, ["<nerf> <nerf>"], "1 NeRFs were passed for 2 placeholders"),
        (0, ["<nerf>"], "0 NeRFs were passed for 1 placeholders"),
        (1, ["none"], "1 NeRFs were passed for 0 placeholders"),
        (1, ["<nerf> <point_patch>"], "prompt 0 has 1 NeRFs, 1 <point_patch> tokens, but 2 of them"),
    ],
)
def test_counts_that_differ_are_named(processor, nerfs, count, prompts, message):
    with pytest.raises(ValueError, match=message):
        processor(nerfs=nerfs[:count] or None, text=prompts)


def test_nested_counts_and_truncation_are_named(processor, nerfs):
    with pytest.raises(ValueError, match="prompt 1 has 0 placeholders but 1 NeRFs"):
        processor(nerfs=[[nerfs[0]], [nerfs[1]]], text=["<nerf>", "b"])
    with pytest.raises(ValueError, match="NeRFs for 1 prompts came with 2 prompts"):
        processor(nerfs=[[nerfs[0]]], text=["<nerf>", "b"])
    with pytest.raises(ValueError, match=r"1 <point_patch> tokens, but 0 of them .*truncation.*raise max_length"):
        processor(nerfs=[nerfs[0]], text=["A long question first. <nerf>"], truncation=True, max_length=6)
    with pytest.raises(ValueError, match=r"shape \(31,\); expected \(32,\)"):
        processor(nerfs=[np.zeros(31)], text=["<nerf>"])
    with pytest.raises(ValueError, match="NaN"):
        processor(nerfs=[np.full(32, np.nan)], text=["<nerf>"])
    with pytest.raises(TypeError, match="a NeRF is a int"):
        processor(nerfs=[3], text=["<nerf>"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        processor(nerfs=["nowhere/nerf.pth"], text=["<nerf>"])
    with pytest.raises(ValueError, match="text is missing"):
        processor(nerfs=[nerfs[0]])
    with pytest.raises(ValueError, match=r"'hello', is taken for the path of a NeRF; write processor\(text=\.\.\.\)"):
        processor("hello")
    with pytest.raises(ValueError, match="no images"):
        processor(text="a", images=["x"])


def test_tokens_per_nerf(processor, nerfs):
    wide = LlanaGmnProcessor(processor.tokenizer, tokens_per_nerf=3, embedding_dim=32)
    features = wide(nerfs=nerfs[:1], text=["<nerf> a"], return_tensors="pt")
    assert int((features["input_ids"] == wide.nerf_token_id).sum()) == 3


def test_a_tokenizer_without_the_tokens_is_refused():
    with pytest.raises(ValueError, match=r"no token '<point_patch>'; add it first"):
        LlanaGmnProcessor(tiny_tokenizer())


def test_batches_survive_loaders_moves_and_casts(processor, nerfs):
    samples = [(nerfs[0], "What is it?"), (nerfs[0], "Is it red?"), (nerfs[0], "Is it a car?")]

    def collate(rows):
        return processor(nerfs=[n for n, _ in rows], text=["<nerf>\n" + t for _, t in rows], return_tensors="pt")

    whole = collate(samples)
    (batch,) = DataLoader(samples, batch_size=3, collate_fn=collate, num_workers=1)
    assert all(torch.equal(batch[key], whole[key]) for key in whole)
    cast = collate(samples).to("cpu", dtype=torch.bfloat16)
    assert torch.equal(cast["nerf_weights"], whole["nerf_weights"])
    rows = [
        {k: v[0] for k, v in processor(nerfs=[n], text=["<nerf>"], return_tensors="pt").items()} for n, _ in samples
    ]
    assert torch.equal(default_collate(rows)["nerf_weights"], whole["nerf_weights"])


def test_the_template_is_saved_with_the_processor(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == VICUNA_TEMPLATE
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.chat_template == VICUNA_TEMPLATE
    assert (loaded.embedding_dim, loaded.tokens_per_nerf, loaded.nerf_token_id) == (32, 1, processor.nerf_token_id)
    for prompt in ("What is it?", " a  b\n", "Émile 中 </s>USER: 1"):
        assert loaded(text=prompt)["input_ids"] == processor(text=prompt)["input_ids"]


def test_answers_are_cut_out_of_sequences(processor, nerfs):
    inputs = processor(nerfs=nerfs[:1], text="<nerf>\nWhat?", return_tensors="pt")
    answer = processor.tokenizer(" A chair.", add_special_tokens=False, return_tensors="pt")["input_ids"]
    sequence = torch.cat([inputs["input_ids"], answer, torch.tensor([[2, 0]])], dim=1)
    assert processor.post_process(sequence, inputs) == ["A chair."]


def test_options_are_merged_as_processors_of_transformers_do(processor, nerfs):
    asked = {"text": ["<nerf> a", "b and more of it"], "nerfs": nerfs[:1], "return_tensors": "pt"}
    plain = processor(**asked)
    assert plain["attention_mask"][0, 0] == 0  # padded to the longest, on the left
    nested = processor(**asked, text_kwargs={"padding": "max_length", "max_length": 40, "padding_side": "right"})
    flat = processor(**asked, padding="max_length", max_length=40, padding_side="right")
    assert torch.equal(nested["input_ids"], flat["input_ids"])
    assert flat["attention_mask"][:, [0, -1]].tolist() == [[1, 0], [1, 0]]
    assert flat["input_ids"].shape == (2, 40)
    with pytest.raises(ValueError, match="passed two times"):
        processor(**asked, padding=False, text_kwargs={"padding": True})
    own = tiny_tokenizer()
    own.init_kwargs |= {"padding": "max_length", "max_length": 40, "padding_side": "right"}
    add_nerf_tokens(own)
    made = LlanaGmnProcessor(own, embedding_dim=32)(**asked)
    assert made["attention_mask"][:, [0, -1]].tolist() == [[0, 1], [0, 1]]
    assert made["input_ids"].shape == (2, 40)
    own.init_kwargs = {}
    own.pad_token = None
    assert len(LlanaGmnProcessor(own, embedding_dim=32)(text="b")["input_ids"][0]) > 1  # one prompt needs no padding
    messages = [user(text("Hello"))]
    wide = processor.apply_chat_template(messages, tokenize=True, padding="max_length", max_length=90)
    assert len(wide[0]) == 90


def test_what_tools_of_multimodal_models_ask_a_processor(processor, nerfs):
    wide = LlanaGmnProcessor(processor.tokenizer, tokens_per_nerf=3, embedding_dim=32)
    said = wide(
        nerfs=nerfs[:2],
        text="a <nerf>, <nerf>",
        add_special_tokens=False,
        return_mm_token_type_ids=True,
        return_text_replacement_offsets=True,
    )
    assert said["mm_token_type_ids"] == [[int(each == wide.nerf_token_id) for each in said["input_ids"][0]]]
    assert sum(said["mm_token_type_ids"][0]) == 6
    assert wide._get_num_multimodal_tokens(nerf_sizes=[1, 2])["num_nerf_tokens"] == [3, 3]
    assert "num_image_tokens" not in wide._get_num_multimodal_tokens()
    written = f"a {wide.nerf_text}, {wide.nerf_text}"
    (replaced,) = said["text_replacement_offsets"]
    assert [each["span"] for each in replaced] == [(2, 8), (10, 16)]
    for each in replaced:
        assert written[slice(*each["new_span"])] == each["replacement"] == wide.replace_nerf_token({}, 0)
    assert {*wide(nerfs=nerfs[:1], text="<nerf>"), "nerf_embeddings"} <= {*wide.model_input_names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_dim": 31}, "the processor has embeddings of size 31, the model embeddings of size 32"),
        ({"tokens_per_nerf": 2}, "the processor has 2 tokens a NeRF, the model 1 tokens a NeRF"),
        ({"nerf_token": "<point_start>"}, r"number \d+ for <point_start>, the model number \d+"),
        ({"tokenizer": "wider"}, r"tokens up to number \d+, the model's vocabulary ends at \d+"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_processor_of_another_model_is_named_before_anything_is_generated(tiny, nerfs, change, message, tmp_path):
    model, processor = tiny
    options = {"tokenizer": processor.tokenizer, "embedding_dim": 32, **change}
    if change.get("tokenizer"):
        options["tokenizer"] = copy.deepcopy(processor.tokenizer)
        options["tokenizer"].add_tokens(["<more>"])
    other = LlanaGmnProcessor(**options)
    processor.check_model(model.config)
    with pytest.raises(ValueError, match=message):
        ChatSession(model, other)
    with pytest.raises(ValueError, match=message):
        caption_nerfs(model, other, nerfs)
    model.save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)

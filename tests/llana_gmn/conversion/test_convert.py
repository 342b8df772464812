"""Conversions on a made-up LLaNA checkpoint with the true names, tokens and fields, and a made-up gmnerf encoder."""

from __future__ import annotations

import json
import re

import pytest
import torch

from gmn_encoder import Nerf, Nf2vecConfig, Nf2vecEncoder
from gmn_encoder.encoders.gmn.config import GmnConfig
from gmn_encoder.encoders.gmn.encoder import GmnEncoder
from gmn_encoder.files import atomic_directory
from llana_gmn import LlanaGmnConfig, LlanaGmnForConditionalGeneration, LlanaGmnProcessor
from llana_gmn.assembly.tiny import tiny_model
from llana_gmn.checkpoints.files import ShardWriter, read_weights, weight_files
from llana_gmn.checkpoints.merge import merge
from llana_gmn.commands import main
from llana_gmn.conversion.convert import convert
from llana_gmn.conversion.llana import config_from_llana, name_from_llana
from tests.llana_gmn.conversion.llana import PUBLISHED, Llana, projector


@pytest.fixture(scope="module")
def llana():
    return Llana()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A gmnerf checkpoint file."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("gmnerf") / "best.pt"
    state = GmnEncoder(GmnConfig(hidden_dim=16)).state_dict()
    torch.save({"epoch": 3, "encoder": state, "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture
def prompt(llana):
    text = "USER: <point_start><point_patch><point_end>\nWhat is this object? ASSISTANT:"
    return llana.tokenizer(text, return_tensors="pt")["input_ids"]


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("model_type", ["nerfllm", "llana"])
def test_llana_gives_the_same_logits(llana, encoder, prompt, tmp_path, form, model_type):
    source = llana.save(tmp_path / "llana", form=form, model_type=model_type)
    convert(source, tmp_path / "ours", encoder=encoder)
    model = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    processor = LlanaGmnProcessor.from_pretrained(tmp_path / "ours")
    vec = torch.rand(1, 1, 1024)
    expected = llana.logits(prompt, vec)
    inputs = processor(nerfs=vec[0], text="USER: <point>\nWhat is this object? ASSISTANT:", return_tensors="pt")
    assert torch.equal(inputs["input_ids"], prompt)
    torch.testing.assert_close(model(**inputs).logits, expected)
    torch.testing.assert_close(model(input_ids=prompt, nerf_embeddings=vec).logits, expected)
    assert (expected - llana.logits(prompt, vec * 0)).abs().max() > 1e-4
    reference = GmnEncoder.from_pretrained(encoder).state_dict()
    assert all(torch.equal(model.nerf_encoder.state_dict()[key], tensor) for key, tensor in reference.items())


def test_old_tokenizers_put_a_space_after_a_nerf(llana, tmp_path):
    """LLaNA's slow tokenizer did, unless its files say otherwise; a saved and loaded processor still does."""
    source = llana.save(tmp_path / "llana")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings.pop("legacy")
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    convert(source, tmp_path / "ours")
    processor = LlanaGmnProcessor.from_pretrained(tmp_path / "ours")
    processor.save_pretrained(tmp_path / "again")
    for each in (processor, LlanaGmnProcessor.from_pretrained(tmp_path / "again")):
        ids = each(nerfs=torch.rand(1, 1024), text="<nerf>\nIt</s>USER:")["input_ids"][0]
        pieces = each.tokenizer.convert_ids_to_tokens(ids)
        assert pieces[:6] == ["<s>", "<point_start>", "<point_patch>", "<point_end>", "▁", "<0x0A>"]
        assert pieces[pieces.index("</s>") + 1] == "▁USER:"


def test_there_and_back(llana, encoder, prompt, tmp_path):
    source = llana.save(tmp_path / "llana", tokenizer="model")
    convert(source, tmp_path / "ours", encoder=encoder)
    convert(tmp_path / "ours", tmp_path / "back", to="llana")
    state = dict(read_weights(tmp_path / "back"))
    original = llana.state_dict()
    original.pop("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert state.keys() == original.keys()
    assert all(torch.equal(state[key], original[key]) for key in original)
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("llana", "back"))
    dropped = {"dtype", "transformers_version"}
    assert {k: v for k, v in second.items() if k in first and k not in dropped} == {
        k: v for k, v in first.items() if k in second and k not in dropped
    }
    assert set(PUBLISHED) <= set(second)
    convert(tmp_path / "back", tmp_path / "again")
    a, b = (dict(read_weights(tmp_path / name)) for name in ("ours", "again"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_encoder_of_another_kind_than_llanas_is_warned_of(llana, encoder, tmp_path, caplog):
    source = llana.save(tmp_path / "llana")
    convert(source, tmp_path / "gmn", encoder=encoder)
    assert "reads embeddings of nf2vec, and its encoder is a gmn_encoder; they belong together only if" in caplog.text
    caplog.clear()
    Nf2vecEncoder(Nf2vecConfig(hidden_dims=(8,))).save_pretrained(tmp_path / "encoder")
    convert(source, tmp_path / "nf2vec", encoder=tmp_path / "encoder")
    assert not caplog.text


def test_without_an_encoder_embeddings_are_taken(llana, tmp_path):
    convert(llana.save(tmp_path / "llana"), tmp_path / "ours")
    model = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert model.nerf_encoder is None
    assert "none: takes precomputed embeddings" in (tmp_path / "ours" / "README.md").read_text()


def test_dtype_and_a_projector_of_its_own(llana, encoder, tmp_path):
    source = llana.save(tmp_path / "llana")
    torch.manual_seed(5)
    trained = {f"model.vec_proj.{key}": tensor for key, tensor in projector(32).state_dict().items()}
    trained["model.embed_tokens.weight"] = torch.rand(584, 32)
    torch.save(trained, tmp_path / "vec_proj.bin")
    options = {"encoder": encoder, "dtype": torch.bfloat16, "projector": tmp_path / "vec_proj.bin"}
    convert(source, tmp_path / "ours", **options)
    model = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert (model.dtype, model.nerf_encoder.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(model.projector[0].weight, trained["model.vec_proj.0.weight"].bfloat16())
    assert torch.equal(model.get_input_embeddings().weight, trained["model.embed_tokens.weight"].bfloat16())


def test_llana_7b_names_shapes_and_count():
    """What a LLaNA-7B checkpoint holds (docs/released_format.md#llana-checkpoint), written out, against our model on the meta
    device."""
    shapes = {"model.embed_tokens.weight": (32003, 4096), "lm_head.weight": (32003, 4096), "model.norm.weight": (4096,)}
    for i in range(32):
        layer = f"model.layers.{i}."
        shapes |= {f"{layer}self_attn.{p}_proj.weight": (4096, 4096) for p in "qkvo"}
        shapes |= {f"{layer}mlp.{p}_proj.weight": (11008, 4096) for p in ("gate", "up")}
        shapes |= {f"{layer}mlp.down_proj.weight": (4096, 11008)}
        shapes |= {f"{layer}{n}_layernorm.weight": (4096,) for n in ("input", "post_attention")}
    for i, (out, width) in {0: (1024, 1024), 2: (2048, 1024), 4: (4096, 2048)}.items():
        shapes |= {f"model.vec_proj.{i}.weight": (out, width), f"model.vec_proj.{i}.bias": (out,)}
    values = {
        **PUBLISHED,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 11008,
        "vocab_size": 32003,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = config_from_llana(values, (32000, 32001, 32002), encoder=GmnConfig())
    with torch.device("meta"):
        model = LlanaGmnForConditionalGeneration(config)
        default = LlanaGmnForConditionalGeneration(LlanaGmnConfig())
    ours = {
        key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        if not key.startswith("model.nerf_encoder.")
    }
    assert ours == {name_from_llana(key): shape for key, shape in shapes.items()}
    assert {key: tensor.shape for key, tensor in default.state_dict().items()} == {
        key: tensor.shape for key, tensor in model.state_dict().items()
    }
    assert sum(key.startswith("model.nerf_encoder.") for key in model.state_dict()) == 74


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("model.vec_proj.2.bias"), "lacks the weight 'model.vec_proj.2.bias'"),
        (lambda state: state.update({"model.extra": torch.ones(1)}), "unknown weight 'model.extra'"),
        (
            lambda state: state.update({"model.vec_proj.0.weight": torch.ones(1024, 768)}),
            r"'model.vec_proj.0.weight' has shape \[1024, 768\]; its configuration means \[1024, 1024\]",
        ),
    ],
)
def test_other_weights_are_refused(llana, tmp_path, change, message):
    source = llana.save(tmp_path / "llana")
    for file in [*source.glob("*.safetensors"), *source.glob("*.index.json")]:
        file.unlink()
    state = llana.state_dict()
    change(state)
    torch.save(state, source / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        convert(source, tmp_path / "ours")
    assert not list(tmp_path.glob("*ours*"))


def test_code_in_a_pickle_does_not_run(llana, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    source = llana.save(tmp_path / "llana", form="bin")
    torch.save({"model.norm.weight": Evil()}, next(source.glob("*.bin")))
    with pytest.raises(ValueError, match="refused"):
        convert(source, tmp_path / "ours")
    assert not (tmp_path / "ran").exists()


def test_sources_that_are_no_checkpoints(llana, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        convert(tmp_path / "nothing", tmp_path / "out")
    llana.llama.save_pretrained(tmp_path / "llama")
    with pytest.raises(ValueError, match="model_type 'llama'; expected a LLaNA checkpoint"):
        convert(tmp_path / "llama", tmp_path / "out")
    with pytest.raises(ValueError, match="no model of ours"):
        convert(tmp_path / "llama", tmp_path / "out", to="llana")
    source = llana.save(tmp_path / "llana", mm_use_point_start_end=False)
    with pytest.raises(ValueError, match="mm_use_point_start_end is false"):
        convert(source, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        convert(llana.save(tmp_path / "other"), tmp_path / "full")
    index = tmp_path / "other" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(ValueError, match="outside its directory"):
        weight_files(tmp_path / "other")


def test_a_model_llana_has_no_form_for(tiny, tmp_path):
    model, processor = tiny
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    with pytest.raises(ValueError, match=r"this model has a llama backbone, 1 token\(s\) and 32 -> 32 -> 64 with gelu"):
        convert(tmp_path / "m", tmp_path / "out", to="llana")


def test_encoders_in_and_out(encoder, tmp_path):
    expected = GmnEncoder.from_pretrained(encoder).fingerprint()
    convert(encoder, tmp_path / "enc")
    assert GmnEncoder.from_pretrained(tmp_path / "enc").fingerprint() == expected
    convert(tmp_path / "enc", tmp_path / "back.pt", to="gmnerf")
    state = torch.load(tmp_path / "back.pt", weights_only=True)
    assert set(state) == {"encoder"}
    assert GmnEncoder.from_pretrained(tmp_path / "back.pt").fingerprint() == expected


def test_gmnerf_takes_what_its_form_holds(llana, encoder, tmp_path):
    expected = GmnEncoder.from_pretrained(encoder).fingerprint()
    source = llana.save(tmp_path / "llana")
    with pytest.raises(ValueError, match="holds no encoder; a LLaNA checkpoint has one only in its folder encoder"):
        convert(source, tmp_path / "e.pt", to="gmnerf")
    GmnEncoder.from_pretrained(encoder).double().save_pretrained(source / "encoder")
    convert(source, tmp_path / "e.pt", to="gmnerf")
    state = torch.load(tmp_path / "e.pt", weights_only=True)["encoder"]
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert GmnEncoder.from_pretrained(tmp_path / "e.pt").fingerprint() == expected
    others = {
        "has a head (24 to 16), which gmnerf does not have": GmnConfig(hidden_dim=8, embedding_dim=16, readout_dim=24),
        "was trained on 'geometric' graphs": GmnConfig(hidden_dim=8, layout="geometric"),
        "was made with canonical, readout_per_kind, which": GmnConfig(
            hidden_dim=8, canonical=True, readout_per_kind=True
        ),
        "layer norms have the epsilon 0.001, gmnerf's are 1e-05": GmnConfig(hidden_dim=8, layer_norm_eps=1e-3),
    }
    for i, (message, config) in enumerate(others.items()):
        GmnEncoder(config).save_pretrained(tmp_path / str(i))
        with pytest.raises(ValueError, match=re.escape(message)):
            convert(tmp_path / str(i), tmp_path / f"{i}.pt", to="gmnerf")
    Nf2vecEncoder(Nf2vecConfig(hidden_dims=(8,), embedding_dim=4)).save_pretrained(tmp_path / "nf2vec")
    with pytest.raises(ValueError, match="its encoder is a 'nf2vec'; a gmnerf checkpoint holds a GMN"):
        convert(tmp_path / "nf2vec", tmp_path / "n.pt", to="gmnerf")


def test_llana_with_nf2vecs_encoder_reads_raw_nerfs(llana, tmp_path):
    """From both projects' own files to a model that takes an MLP NeRF, and refuses another by name."""
    torch.manual_seed(2)
    encoder = Nf2vecEncoder(Nf2vecConfig(hidden_dims=(16, 16)))
    torch.save({"epoch": 1, "encoder": encoder.state_dict()}, tmp_path / "nf2vec.pt")
    convert(llana.save(tmp_path / "llana"), tmp_path / "ours", encoder=tmp_path / "nf2vec.pt")
    model = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    processor = LlanaGmnProcessor.from_pretrained(tmp_path / "ours")
    nerf = Nerf.random("MLP")
    assert model.nerf_encoder.fingerprint() == encoder.fingerprint()
    prompt = "USER: <nerf>\nWhat is this object? ASSISTANT:"
    raw = model(**processor(nerfs=[nerf], text=prompt, return_tensors="pt")).logits
    embedded = processor(nerfs=encoder.encode([nerf]), text=prompt, return_tensors="pt")
    torch.testing.assert_close(raw, model(**embedded).logits)
    torch.testing.assert_close(raw, llana.logits(embedded["input_ids"], encoder.encode_tokens([nerf])))
    with pytest.raises(
        ValueError, match="TRI NeRF: is a NeRF of the architecture TRI; nf2vec reads MLP NeRFs with layers of 64"
    ):
        model(**processor(nerfs=[Nerf.random("TRI")], text=prompt, return_tensors="pt"))


def test_the_encoder_out_of_a_model(tiny, tmp_path):
    tiny[0].save_pretrained(tmp_path / "m")
    convert(tmp_path / "m", tmp_path / "e.pt", to="gmnerf")
    assert GmnEncoder.from_pretrained(tmp_path / "e.pt").fingerprint() == tiny[0].nerf_encoder.fingerprint()


def test_shards(tmp_path):
    tensors = {f"t{i}": torch.full((10,), float(i)) for i in range(5)}
    with atomic_directory(tmp_path / "m") as directory:
        writer = ShardWriter(directory, shard_bytes=90)
        for key, tensor in tensors.items():
            writer.add(key, tensor)
        writer.close()
    assert [file.name for file in weight_files(tmp_path / "m")] == [
        f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)
    ]
    assert {key: float(tensor[0]) for key, tensor in read_weights(tmp_path / "m")} == {f"t{i}": i for i in range(5)}
    assert json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())["metadata"]["total_size"] == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_merge_gives_the_adapters_logits(tmp_path, nerfs):
    from peft import LoraConfig, PeftModel, get_peft_model

    model, processor = tiny_model()
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["projector"],
        trainable_token_indices={"embed_tokens": [model.config.nerf_start_token_id, model.config.nerf_end_token_id]},
        init_lora_weights=False,
    )
    loaded = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "base")
    tuned = get_peft_model(loaded, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
                assert "nerf_encoder" not in name
    tuned.save_pretrained(tmp_path / "adapter")
    inputs = processor(nerfs=nerfs[:2], text=["<nerf>\nWhat?", "And <nerf> now?"], return_tensors="pt")
    adapted = PeftModel.from_pretrained(
        LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "base"), str(tmp_path / "adapter")
    ).eval()
    expected = adapted(**inputs).logits
    generated = adapted.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert (expected - model(**inputs).logits).abs().max() > 1e-2
    merge(tmp_path / "adapter", tmp_path / "whole", model=tmp_path / "base")
    whole = LlanaGmnForConditionalGeneration.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(whole(**inputs).logits, expected, rtol=0, atol=5e-5)
    assert torch.equal(whole.generate(**inputs, max_new_tokens=6, do_sample=False), generated)
    assert LlanaGmnProcessor.from_pretrained(tmp_path / "whole").embedding_dim == 32
    assert whole.nerf_encoder.fingerprint() == model.nerf_encoder.fingerprint()


def test_commands(llana, encoder, tmp_path, capsys):
    source = llana.save(tmp_path / "llana")
    assert main(["convert", str(source), "--encoder", str(encoder), "--out", str(tmp_path / "ours")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "ours")
    assert main(["convert", str(tmp_path / "ours"), "--to", "gmnerf", "--out", str(tmp_path / "e.pt")]) == 0
    assert main(["convert", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 1
    assert "none: no such file or directory" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "ours"), "--out", str(tmp_path / "x")]) == 1
    assert "holds no adapter; expected a directory with adapter_config.json" in capsys.readouterr().err

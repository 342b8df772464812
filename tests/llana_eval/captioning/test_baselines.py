"""A vision-language model that is shown views, as a baseline: a tiny LLaVA with random weights, made here."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gmn_encoder.nerfs.files import load_nerf, save_nerf
from gmn_encoder.nerfs.record import Nerf
from gmn_encoder.objects import generate_dataset, write_texts
from gmn_encoder.rendering.cameras import default_view
from gmn_encoder.rendering.occupancy import OccupancyGrid, write_occupancy
from gmn_encoder.rendering.pictures import nerf_pictures
from gmn_encoder.rendering.voxels import voxel_centers
from llana_eval.captioning.baselines import load_vlm
from llana_eval.captioning.benchmark import answer, load_benchmark
from llana_eval.captioning.tasks import load_task
from llana_gmn.commands import main
from llana_gmn.default.objects import default_model_path
from tests.llana_eval.conftest import saying_model

OBJECTS = 3
TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>\n{% else %}{{ p['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """The directory of a tiny LLaVA with its processor. What it answers depends on the picture."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from llana_gmn.assembly.tiny import tiny_text_config, tiny_tokenizer

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llava")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = CLIPVisionConfig(**sizes, image_size=28, patch_size=14, projection_dim=32)
    token = tokenizer.convert_tokens_to_ids("<image>")
    text = tiny_text_config(len(tokenizer))
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=token, image_seq_length=4)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.mul_(60)
    model.save_pretrained(path)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, do_normalize=False
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        image_token="<image>",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Coloured fog in balls of several sizes, and texts about them."""
    root = tmp_path_factory.mktemp("data")
    things = list(generate_dataset(OBJECTS))
    write_texts(things, root / "language" / "test" / "texts")
    for seed, thing in enumerate(things):
        fog = Nerf.random({"family": "mlp", "hidden_layers": 1, "hidden_dim": 16}, seed=seed)
        folder = root / "mlp" / thing.class_id / thing.object_id
        save_nerf(Nerf(fog.architecture, {key: tensor * 8 for key, tensor in fog.tensors.items()}), folder)
        write_occupancy(OccupancyGrid(voxel_centers().norm(dim=-1) < 0.2 + 0.1 * seed), folder / "grid.pth")
        (folder / "train").mkdir()
        Image.new("RGB", (8, 8), "red").save(folder / "train" / "00.png")  # is not to be shown
    return root


def arguments(data, llava, out, *more):
    return [
        *("evaluate", "--baseline", "vlm", "--model", str(llava), "--data", str(data), "--out", str(out)),
        *("--task", "brief_description", "--metrics", "bleu-1,rouge-l", "--max-new-tokens", "5", "--gallery", "0"),
        *("--resamples", "20", "--view-size", "28", *more),
    ]


def by_hand(llava, picture, question):
    """What the model says about one picture, through transformers alone."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(llava), AutoModelForImageTextToText.from_pretrained(llava).eval()
    content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = processor.apply_chat_template([{"role": "user", "content": content}], **options)
    ids = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    return processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_it_answers_the_same_questions_about_rendered_views(data, llava, tmp_path, capsys):
    assert main(arguments(data, llava, tmp_path)) == 0
    assert f"{llava.name} " in capsys.readouterr().out
    records = json.loads((tmp_path / "brief_description_mlp_vlm.json").read_text())
    benchmark = load_benchmark(load_task("brief_description"), data)
    assert [list(record) for record in records] == [["object_id", "question", "ground_truth", "model_output"]] * OBJECTS
    for record, item in zip(records, benchmark.items, strict=True):
        assert (record["question"], record["ground_truth"]) == (item.questions[0], item.conversation.turns[0][1])
        (picture,) = nerf_pictures(load_nerf(item.nerf), default_view(size=28))
        assert record["model_output"] == by_hand(llava, picture, item.questions[0])
    assert len({record["model_output"] for record in records}) > 1
    run = json.loads((tmp_path / "brief_description_mlp_vlm_evaluated_traditional.json").read_text())["run"]
    assert (run["baseline"], run["view_size"], run["model"]) == ("vlm", 28, str(llava))
    assert (run["view"], run["view_azimuth"]) == ("30 degrees up, 1.5 away, over white", 90.0)
    assert len(run["model_sha256"]) == 64


def test_it_continues_as_the_model_does(data, llava, tmp_path, capsys, monkeypatch):
    assert main(arguments(data, llava, tmp_path)) == 0
    path = tmp_path / "brief_description_mlp_vlm.jsonl"
    lines = path.read_text().splitlines()
    kept = json.dumps({**json.loads(lines[1]), "answers": ["kept from before"]})
    path.write_text(kept + "\n")
    assert main(arguments(data, llava, tmp_path)) == 0
    assert path.read_text().splitlines() == [lines[0], kept, *lines[2:]]
    assert main(arguments(data, llava, tmp_path, "--view-size", "30")) == 1
    assert "was begun with view_size 28, now 30" in capsys.readouterr().err
    monkeypatch.setattr("llana_eval.captioning.baselines.load_vlm", lambda *a, **k: pytest.fail("nothing is left"))
    assert main(arguments(data, llava, tmp_path)) == 0


def test_a_judge_scores_a_run(data, llava, tmp_path, capsys, monkeypatch):
    judge = saying_model(tmp_path / "judge", "75#right")
    command = arguments(data, llava, tmp_path / "out", "--judge", str(judge))
    assert main(command) == 0
    page = (tmp_path / "out" / "brief_description_mlp_vlm.md").read_text()
    assert "| METEOR | Judge |" in page and "| 75.0 |" in page.replace("*", "")
    assert (tmp_path / "out" / "brief_description_mlp_vlm_judge_judge.jsonl").is_file()
    monkeypatch.setattr("llana_eval.captioning.baselines.load_vlm", lambda *a, **k: pytest.fail("too late"))
    assert main([*command, "--judge-url", "http://127.0.0.1:9", "--judge-key-env", "NO_SUCH_KEY", "--overwrite"]) == 1
    assert "the environment has no NO_SUCH_KEY" in capsys.readouterr().err


def test_the_side_of_the_view_can_be_chosen(data, llava):
    from gmn_encoder.rendering.cameras import turntable

    (nerf,) = sorted((data / "mlp").glob("*/*"))[:1]
    (shown,) = load_vlm(llava, size=16, azimuth=180.0)[1].read_nerf(nerf)
    (picture,) = nerf_pictures(load_nerf(nerf), turntable(4, size=16)[[1]])
    assert np.array_equal(shown.numpy(), np.array(picture))


def test_pixels_come_in_the_dtype_of_the_model(data, llava):
    benchmark = load_benchmark(load_task("brief_description"), data)
    model, processor = load_vlm(llava, size=16, dtype="bfloat16")
    found = list(answer(model, processor, benchmark.items, max_new_tokens=2))
    assert model.dtype == torch.bfloat16 and len(found) == OBJECTS


def test_turns_follow_the_answers_before(data, llava):
    benchmark = load_benchmark(load_task("multi_round"), data)
    model, processor = load_vlm(llava, size=28)
    prompts = []
    template = processor._processor.apply_chat_template
    processor._processor.apply_chat_template = lambda messages, **options: (
        prompts.extend(messages) or template(messages, **options)
    )
    ((item, answers),) = answer(model, processor, benchmark.items[:1], max_new_tokens=4)
    last = prompts[-1]
    assert [part["type"] for message in last for part in message["content"]] == ["image"] + ["text"] * 5
    texts = [message["content"][-1]["text"] for message in last]
    assert texts == [item.questions[0], answers[0], item.questions[1], answers[1], item.questions[2]]


def test_what_is_no_vision_language_model_is_refused_in_a_sentence(data, llava, tmp_path, capsys):
    from transformers import AutoModelForCausalLM

    from llana_gmn.assembly.tiny import tiny_text_config, tiny_tokenizer

    text = tmp_path / "text"
    tiny_tokenizer().save_pretrained(text)
    AutoModelForCausalLM.from_config(tiny_text_config()).save_pretrained(text)
    mute = shutil.copytree(llava, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    vecs = tmp_path / "vecs"
    vecs.mkdir()
    for path in (data / "mlp").glob("*/*"):
        np.save(vecs / f"{path.name}.npy", np.zeros(4, dtype=np.float32))
    out = tmp_path / "out"
    for command, message in [
        (arguments(data, text, out), "is a llama model, which reads no pictures here; expected an image-text-to-text"),
        (arguments(data, default_model_path(), out), "is a llana_gmn model, which reads no pictures here"),
        (arguments(data, mute, out), "has no chat template"),
        (arguments(data, tmp_path / "none", out), "cannot be loaded as a vision-language model"),
        (arguments(data, llava, out, "--embeddings", str(vecs)), "is an embedding, of which there is no view"),
        (arguments(data, "", out), "--baseline vlm needs --model"),
    ]:
        capsys.readouterr()
        assert main(command) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
    assert not out.exists()  # the right command finds no file begun with the wrong model

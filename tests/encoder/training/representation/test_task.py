"""Training runs of encoders: what they learn, that a killed one goes on to the same bits, what it says of what is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gmn_encoder import GmnConfig, GmnEncoder
from gmn_encoder.files import read_tensors, write_pth_content
from gmn_encoder.rendering.occupancy import GRID_NAME, OccupancyGrid, write_occupancy
from gmn_encoder.training import loop
from gmn_encoder.training.loop import DivergedError, Reports
from gmn_encoder.training.representation.batches import BatchMaker
from gmn_encoder.training.representation.model import TrainedModel
from gmn_encoder.training.representation.task import encoder_training

from .conftest import TINY, write_set

ROOT = Path(__file__).parents[4]


def train(recipe, data, out, **options):
    return encoder_training(recipe, data, out=out, **options).run()


def tensors_of(value, prefix=""):
    """All tensors in nested dicts and lists, by path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {prefix: value} if isinstance(value, torch.Tensor) else {}
    for key, each in items:
        found |= tensors_of(each, f"{prefix}/{key}")
    return found


def assert_same_run(first, second):
    """Every tensor of weights and optimiser, bit by bit, and the measured metrics."""
    a, b = (read_tensors(Path(out) / "last" / "trainer.pth")[0] for out in (first, second))
    left, right = tensors_of(a), tensors_of(b)
    assert left.keys() == right.keys()
    assert len(left) > 100
    assert [key for key in left if not torch.equal(left[key], right[key])] == []
    lines = [(Path(out) / "metrics.jsonl").read_text() for out in (first, second)]
    assert lines[0] == lines[1]


@pytest.fixture(scope="module")
def uninterrupted(nerf_set, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, train(TINY, nerf_set, out)


def test_a_run_leaves_an_encoder(uninterrupted):
    out, result = uninterrupted
    assert result.finished
    assert result.step == result.steps == 6  # six pairs in batches of two, two epochs
    encoder = GmnEncoder.from_pretrained(out / "last")
    assert encoder.config == TINY.encoder_config
    assert set(json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])) >= {"psnr", "recall@1", "siglip"}
    assert (out / "best" / "model.safetensors").is_file()


@pytest.mark.parametrize("changes", [{"loss": "r"}, {"loss": "c"}, {"loss": "r", "families": ["hash"]}])
def test_losses(changes, nerf_set, tmp_path):
    recipe = TINY.changed(
        **changes, architectures={f: TINY.architectures[f] for f in changes.get("families", TINY.families)}
    )
    result = train(recipe, nerf_set, tmp_path)
    assert ("psnr" in result.metrics) == recipe.renders
    assert ("siglip" in result.metrics) == recipe.contrasts
    assert ("recall@1" in result.metrics) == (len(recipe.families) > 1)
    assert set(read_tensors(tmp_path / "best" / "trainer.pth")[0]) >= {"encoder", "epoch", "optimizer", "scheduler"}


@pytest.mark.parametrize("rendering", ["clean", "released"])
def test_it_learns(rendering, nerf_set, tmp_path):
    """Thirty steps on six NeRFs: the loss of the first batch, same rays and backgrounds, falls."""
    one_step = {"loss": "r", "families": ["mlp"], "architectures": {"mlp": TINY.architectures["mlp"]}, "batch_size": 6}
    recipe = TINY.changed(**one_step, rendering=rendering, learning_rate=1e-2, epochs=30, validate_every=30)
    run = encoder_training(recipe, nerf_set, out=tmp_path)
    batch = run.task.maker.make(0, 0)
    before = run.task.model(batch).total.item()
    run.run()
    assert run.task.model(batch).total.item() < 0.95 * before


@pytest.mark.same_bits
def test_stopped_after_every_step_ends_in_the_same_bits(nerf_set, uninterrupted, tmp_path):
    """`max_seconds` stops within epochs, with and without threads; gradients, rays and metrics are as if it had not."""
    recipe = TINY.changed(max_seconds=1e-9)
    results = []
    while not results or not results[-1].finished:
        results.append(train(recipe.changed(workers=len(results) % 3), nerf_set, tmp_path))
    assert [result.step for result in results] == [1, 2, 3, 4, 5, 6]
    assert_same_run(uninterrupted[0], tmp_path)


SCRIPT = """
import sys
from gmn_encoder.training.loop import Reports
from gmn_encoder.training.representation.task import encoder_training
from tests.encoder.training.representation.conftest import TINY
recipe = TINY.changed(checkpoint_seconds=0)

def say(stage, done, total):
    if stage.startswith("training"):
        print(done, flush=True)

encoder_training(recipe, sys.argv[1], out=sys.argv[2], reports=Reports(progress=say)).run()
"""


def run_script(data, out, *, kill_after=None):
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'encoder'}:{ROOT}"}
    command = [sys.executable, "-c", SCRIPT, str(data), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        steps = []
        for line in process.stdout:
            steps.append(int(line))
            if steps[-1] == kill_after:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.read()
    return steps


@pytest.mark.same_bits
def test_killed_run_ends_in_the_same_bits(nerf_set, uninterrupted, tmp_path):
    assert run_script(nerf_set, tmp_path, kill_after=4)[-1] == 4
    steps = run_script(nerf_set, tmp_path)
    assert steps[0] in (4, 5)
    assert steps[-1] == 6
    assert_same_run(uninterrupted[0], tmp_path)


def test_gradient_accumulation_is_one_step_of_two_batches(nerf_set, tmp_path):
    result = encoder_training(TINY.changed(accumulation=2), nerf_set, out=tmp_path)
    result.run()
    assert result.scheduler.last_epoch == 3  # six batches


def test_starts_from_a_released_checkpoint(nerf_set, tmp_path):
    source = TrainedModel(TINY.changed(seed=5))
    parts = {name: getattr(source, name).state_dict() for name in ("encoder", "decoder", "siglip")}
    released = tmp_path / "best.pt"
    write_pth_content(
        {"epoch": 3, **parts, "optimizer": {}, "scheduler": {}, "scaler": {}, "best_psnr": 20.0}, released
    )
    said = []
    run = encoder_training(TINY, nerf_set, out=tmp_path / "out", init=released, reports=Reports(on_start=said.append))
    assert said == [f"starting from the encoder, decoder, siglip of {released}"]
    for name, part in parts.items():
        for key, value in getattr(run.task.model, name).state_dict().items():
            assert torch.equal(value, part[key])
    with pytest.raises(ValueError, match="its encoder has embedding_dim 16, the recipe has 24; set embedding_dim=16"):
        encoder_training(TINY.changed(embedding_dim=24), nerf_set, out=tmp_path / "out", init=released)
    with pytest.raises(ValueError, match="its decoder has decoder_dim 16, the recipe has 8; set decoder_dim=16"):
        encoder_training(TINY.changed(decoder_dim=8), nerf_set, out=tmp_path / "out", init=released)
    with pytest.raises(FileNotFoundError):
        encoder_training(TINY, nerf_set, out=tmp_path / "out", init="/nowhere/best.pt")


def test_starts_from_our_own_checkpoint(nerf_set, uninterrupted, tmp_path):
    run = encoder_training(TINY, nerf_set, out=tmp_path, init=uninterrupted[0] / "best")
    content = read_tensors(uninterrupted[0] / "best" / "trainer.pth")[0]
    assert torch.equal(
        run.task.model.decoder.state_dict()["after_skip.2.bias"], content["decoder"]["after_skip.2.bias"]
    )


def test_changed_runs_are_refused(nerf_set, uninterrupted, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(uninterrupted[0], out)
    with pytest.raises(ValueError, match=r"trained with epochs=2, and now epochs=3 is asked for; .*--no-resume"):
        encoder_training(TINY.changed(epochs=3), nerf_set, out=out)
    smaller = (
        write_set(tmp_path / "other", objects={"train": 4, "val": 3}) if (tmp_path / "other").mkdir() is None else None
    )
    with pytest.raises(ValueError, match="trained on other objects"):
        encoder_training(TINY, smaller, out=out)
    (out / "last" / "trainer.pth").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"trainer.pth: is no torch.save file"):
        encoder_training(TINY, nerf_set, out=out)
    encoder_training(TINY, nerf_set, out=out, resume=False)


def test_diverging_run_stops_and_keeps_what_was_good(nerf_set, tmp_path):
    run = encoder_training(TINY.changed(checkpoint_seconds=0), nerf_set, out=tmp_path)
    whole = run.task.batches

    def spoilt(epoch, *, first=0):
        for batch in whole(epoch, first=first):
            if run.step == 4:
                with torch.no_grad():
                    run.task.model.encoder.pre_encoder.x_proj.bias.fill_(float("nan"))
            yield batch

    run.task.batches = spoilt
    with pytest.raises(DivergedError, match=r"the loss is nan at step 5; .*trainer.pth is from before; lower"):
        run.run()
    assert read_tensors(tmp_path / "last" / "trainer.pth")[0]["step"] == 4
    GmnEncoder.from_pretrained(tmp_path / "last")


def test_full_disk(nerf_set, tmp_path, monkeypatch, caplog):
    """In between it is a warning, at the end an error; the checkpoint before stays."""

    def full(*arguments, **options):
        raise OSError(f"{tmp_path}/last/trainer.pth: cannot be written: No space left on device")

    run = encoder_training(TINY.changed(checkpoint_seconds=0, validate_every=99), nerf_set, out=tmp_path)
    run.run()
    before = (tmp_path / "last" / "trainer.pth").read_bytes()
    monkeypatch.setattr(loop, "write_checkpoint", full)
    again = encoder_training(
        TINY.changed(checkpoint_seconds=0, validate_every=99), nerf_set, out=tmp_path, resume=False
    )
    with pytest.raises(OSError, match="No space left"):
        again.run()
    assert "no checkpoint" in caplog.text
    assert (tmp_path / "last" / "trainer.pth").read_bytes() == before


@pytest.fixture
def own_set(tmp_path):
    (tmp_path / "data").mkdir()
    return write_set(tmp_path / "data", objects={"train": 2, "val": 2})


def test_missing_data(own_set, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: no such directory"):
        encoder_training(TINY.changed(families=["mlp", "nothing"], architectures={}), own_set, out=tmp_path / "out")
    (own_set / "hash" / "class1" / "thing1" / GRID_NAME).unlink()
    with pytest.raises(FileNotFoundError, match=r"thing1/grid.pth: no such file"):
        train(TINY.changed(epochs=8), own_set, tmp_path / "out")
    shutil.rmtree(own_set / "hash" / "class1")
    with pytest.raises(ValueError, match="objects of the list are missing in hash, such as class1/thing"):
        encoder_training(TINY, own_set, out=tmp_path / "out")
    (own_set / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train.txt: no such list"):
        encoder_training(TINY, own_set, out=tmp_path / "out")


def test_empty_lists(own_set, tmp_path):
    for split in ("val", "train"):
        (own_set / f"{split}.txt").write_text("\n")
        with pytest.raises(ValueError, match=rf"{split}.txt: names no objects"):
            encoder_training(TINY, own_set, out=tmp_path / "out")


@pytest.mark.parametrize("rendering", ["clean", "released"])
def test_empty_grid_trains_without_foreground(rendering, own_set, tmp_path, caplog):
    empty = OccupancyGrid(torch.zeros(24, 24, 24, dtype=torch.bool))
    for family in TINY.families:
        write_occupancy(empty, own_set / family / "class0" / "thing0" / GRID_NAME)
    result = train(TINY.changed(rendering=rendering), own_set, tmp_path / "out")
    assert result.finished
    assert "none of 400 random rays hits anything" in caplog.text


@pytest.mark.same_bits
def test_cache_budget_changes_nothing(nerf_set, uninterrupted, tmp_path):
    train(TINY.changed(cache_gib=0), nerf_set, tmp_path)
    assert_same_run(uninterrupted[0], tmp_path)


def test_cache_keeps_to_its_budget(nerf_set):
    from gmn_encoder.datasets import PairedDataset

    data = PairedDataset(nerf_set, TINY.families, split="train")
    batches = BatchMaker(data, TINY.changed(cache_gib=20e3 / 2**30))
    list(batches.epoch(0))
    assert 0 < batches.cache.nbytes <= 20e3


BFLOAT16 = """
import sys, torch
from gmn_encoder.datasets import PairedDataset
from gmn_encoder.training.representation.batches import BatchMaker
from gmn_encoder.training.representation.model import TrainedModel
from tests.encoder.training.representation.conftest import TINY
batch = BatchMaker(PairedDataset(sys.argv[1], TINY.families, split="train"), TINY).make(0, 0)
totals = [TrainedModel(TINY.changed(precision=p))(batch).total for p in ("float32", "bfloat16")]
totals[1].backward()
print(*(total.item() for total in totals))
"""


def test_bfloat16_is_close(nerf_set):
    """In a process of its own without the CPU's bfloat16 instructions: some virtual machines name them and lack them."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'encoder'}:{ROOT}",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    }
    command = [sys.executable, "-c", BFLOAT16, str(nerf_set)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    exact, rough = map(float, done.stdout.split())
    assert rough == pytest.approx(exact, rel=0.05)
    assert rough != exact


def test_value_gain_scales_one_matrix():
    plain, scaled = (TrainedModel(TINY.changed(value_gain=gain)).encoder.state_dict() for gain in (1, 10))
    key = "pre_encoder.weight_encoder.0.weight"
    assert torch.equal(scaled[key], 10 * plain[key])
    assert all(torch.equal(scaled[other], plain[other]) for other in plain if other != key)


HEAD = {"embedding_dim": 4, "readout_dim": 24}


@pytest.mark.parametrize(("rate", "moved"), [(0, False), (0.1, True)])
def test_body_rate(rate, moved, nerf_set, tmp_path):
    """At 0 the graph network stays as it starts; else it learns by smaller steps than the head."""
    run = encoder_training(TINY.changed(**HEAD, body_rate=rate), nerf_set, out=tmp_path)
    before = {key: tensor.clone() for key, tensor in run.task.model.encoder.state_dict().items()}
    run.run()
    after = GmnEncoder.from_pretrained(tmp_path / "last").state_dict()
    head, body = "head.map.weight", "gnn_w_readout.readout.mlp.0.weight"
    assert not torch.equal(after[head], before[head])
    for key in (body, "pre_encoder.x_proj.weight"):
        assert torch.equal(after[key], before[key]) != moved
    if rate:
        fast, slow = (float((after[key] - before[key]).abs().max()) for key in (head, body))
        assert 3 < fast / slow < 30


def test_options_of_the_encoder(nerf_set, tmp_path):
    """They reach training and the saved encoder; a start from one takes its weights, and the recipe's options."""
    options = dict.fromkeys(GmnConfig.OPTIONS, True)
    run = encoder_training(TINY.changed(**options), nerf_set, out=tmp_path / "all")
    run.run()
    saved = GmnEncoder.from_pretrained(tmp_path / "all" / "last")
    assert saved.config.to_dict() == run.task.model.encoder.config.to_dict()
    assert all(saved.config.to_dict()[option] for option in options)
    other = encoder_training(TINY, nerf_set, out=tmp_path / "none", init=tmp_path / "all" / "last")
    assert not any(getattr(other.task.model.encoder.config, option) for option in options)


@pytest.mark.same_bits
def test_run_of_a_head_goes_on_to_the_same_bits(nerf_set, tmp_path):
    """Also what the batch norm has seen; and it starts no run without a head."""
    recipe = TINY.changed(**HEAD)
    train(recipe, nerf_set, tmp_path / "whole")
    train(recipe.changed(max_seconds=1e-9), nerf_set, tmp_path / "parts")
    train(recipe, nerf_set, tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(ValueError, match="its encoder has readout_dim 24, the recipe has 0; set readout_dim=24"):
        encoder_training(
            TINY.changed(embedding_dim=4), nerf_set, out=tmp_path / "new", init=tmp_path / "whole" / "last"
        )


@pytest.mark.slow
def test_compiled_decoder_gives_the_same(nerf_set):
    from gmn_encoder.datasets import PairedDataset

    batch = BatchMaker(PairedDataset(nerf_set, TINY.families, split="train"), TINY).make(0, 0)
    plain, compiled = (TrainedModel(TINY.changed(compile=value)) for value in (False, True))
    totals = [model(batch).total for model in (plain, compiled)]
    for total in totals:
        total.backward()
    torch.testing.assert_close(totals[1], totals[0])
    for got, wanted in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-4, atol=1e-6)


def test_gradients_against_finite_differences(nerf_set):
    """The whole loss in float64, encoder, decoder and SigLIP, along random directions of all parameters."""
    from gmn_encoder.datasets import PairedDataset
    from gmn_encoder.nerfs.record import NerfBatch
    from gmn_encoder.training.representation.batches import TrainingBatch

    batch = BatchMaker(PairedDataset(nerf_set, TINY.families, split="train"), TINY).make(0, 0)
    doubled = tuple(NerfBatch(n.architecture, {k: t.double() for k, t in n.tensors.items()}) for n in batch.nerfs)
    batch = TrainingBatch(doubled, batch.order, batch.rendering)
    model = TrainedModel(TINY).double()
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(model(batch).total, parameters)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, directions, strict=True):
                    p.add_(d, alpha=sign * 1e-6)
                values.append(float(model(batch).total))
                for p, d in zip(parameters, directions, strict=True):
                    p.add_(d, alpha=-sign * 1e-6)
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=2e-4)


@pytest.mark.gpu
def test_cuda_and_cpu_agree(nerf_set):
    """Teacher, marching, compositing and encoder by their kernels: the same rays, losses and gradients."""
    from gmn_encoder.datasets import PairedDataset

    data = PairedDataset(nerf_set, TINY.families, split="train")
    model = TrainedModel(TINY)
    results = []
    for device in ("cpu", "cuda"):
        batch = BatchMaker(data, TINY, device=device).make(0, 0)
        model = model.to(device)
        model.zero_grad()
        losses = model(batch)
        losses.total.backward()
        gradients = torch.cat([p.grad.flatten().cpu() for p in model.parameters()])
        results.append((losses.total.item(), gradients))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-3)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-2, atol=1e-4)

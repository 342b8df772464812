import math

import pytest
import torch
from safetensors.torch import load_file

from gmn_encoder.files import write_json, write_pth_content, write_safetensors
from llana_eval.classes import CLASS_IDS
from llana_eval.representation.classifier import (
    PAPER_HIDDEN,
    EmbeddingClassifier,
    load_classifier,
    save_classifier,
)
from llana_eval.representation.classifier_training import ClassifierOptions, ClassifierTraining, mix_within_classes
from tests.conftest import GOLDEN


def golden():
    tensors = load_file(GOLDEN / "fc_classifier.safetensors")
    return {key: value for key, value in tensors.items() if key.startswith("net.")}, tensors


def clusters(count=120, classes=3, width=8, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.eye(classes, width)
    labels = torch.arange(count) % classes
    return centres[labels] + spread * torch.randn(count, width, generator=generator), labels


def test_golden_logits():
    state, tensors = golden()
    network = EmbeddingClassifier.from_state_dict(state)
    assert (network.in_features, network.num_classes) == (1024, 13)
    with torch.no_grad():
        torch.testing.assert_close(network(tensors["input"]), tensors["logits_f32"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            network.double()(tensors["input"].double()), tensors["logits_f64"], rtol=1e-9, atol=1e-12
        )


def test_released_checkpoint_is_read(tmp_path):
    state, _ = golden()
    checkpoint = {
        "epoch": 145,
        "best_acc": 0.936,
        "net": state,
        "optimizer": {"state": {}},
        "scheduler": {"last_epoch": 1},
    }
    # As the released trainer may have saved it, from the module or from its Sequential.
    bare = {key.removeprefix("net."): value for key, value in state.items()}
    for name, net in (("module.pt", state), ("sequential.pt", bare)):
        write_pth_content({**checkpoint, "net": net}, tmp_path / name)
        network, classes = load_classifier(tmp_path / name)
        assert classes == CLASS_IDS and torch.equal(network.net[8].bias, state["net.8.bias"])


def test_three_blocks_of_the_paper():
    network = EmbeddingClassifier(1024, 13, hidden=PAPER_HIDDEN)
    assert [layer.out_features for layer in network.linear_layers] == [1024, 512, 256, 13]
    again = EmbeddingClassifier.from_state_dict(network.state_dict())
    assert [layer.out_features for layer in again.linear_layers] == [1024, 512, 256, 13]


def test_mixing_by_hand():
    # Class 0 stands three times, class 1 twice (not more than twice), class 2 four times: 3 + 4 samples are appended.
    labels = torch.tensor([2, 0, 1, 0, 2, 1, 2, 0, 2])
    rows = torch.arange(9.0)[:, None].expand(9, 500)  # every feature says which sample it came from
    values, mixed_labels = mix_within_classes(rows, labels, generator=torch.Generator().manual_seed(0))
    assert torch.equal(values[:9], rows) and mixed_labels.tolist() == [*labels.tolist(), 2, 0, 0, 2, 2, 0, 2]
    shares = []
    for own, mixed, label in zip([0, 1, 3, 4, 6, 7, 8], values[9:], mixed_labels[9:], strict=True):
        sources = set(mixed.int().tolist())
        assert len(sources) <= 2 and all(labels[source] == label for source in sources)
        assert own in sources or len(sources) == 1
        shares.append(float((mixed == own).float().mean()))
    assert len({round(share, 2) for share in shares}) > 3  # each sample draws its own ratio


def test_mixing_ratio_is_uniform():
    # A feature stays with chance r, r ~ U(0, 1), if the partner is another sample (2 of 3 times), else always: 1/3 + 2/3 / 2.
    values = torch.arange(3.0)[:, None].expand(3, 64)
    labels = torch.zeros(3, dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    kept, shares = 0.0, []
    for _ in range(2000):
        mixed = mix_within_classes(values, labels, generator=generator)[0][3:]
        own = (mixed == values).float().mean(dim=1)
        kept += float(own.mean()) / 2000
        shares += [float(share) for share in own if share < 1]
    assert kept == pytest.approx(2 / 3, abs=0.02)
    # The shares of mixed ones are spread evenly, not around one half: a quarter of them lies below a quarter.
    assert sum(share < 0.25 for share in shares) / len(shares) == pytest.approx(0.25, abs=0.04)


def test_nothing_to_mix():
    values, labels = torch.randn(4, 3), torch.tensor([0, 0, 1, 1])
    assert mix_within_classes(values, labels)[0] is values


OPTIONS = ClassifierOptions(hidden=(32, 16), epochs=12, batch_size=32, learning_rate=1e-2, dropout=0.2)


def test_it_learns_and_chooses_by_validation():
    training = ClassifierTraining(clusters(), clusters(seed=1), num_classes=3, options=OPTIONS)
    network = training.run()
    test, labels = clusters(seed=2)
    assert float((network.predict(test) == labels).float().mean()) > 0.9
    assert training.best_epoch in (5, 10, 12)
    values, truth = clusters(seed=1)
    assert float((network.predict(values) == truth).double().mean()) == training.best_accuracy
    assert training.scheduler.last_epoch == training.scheduler.total_steps == 12 * 4  # 120 samples are 4 batches


class Stop(Exception):
    pass


@pytest.mark.same_bits
def test_a_killed_training_continues_to_the_same_result(tmp_path):
    whole = ClassifierTraining(clusters(), clusters(seed=1), num_classes=3, options=OPTIONS)
    expected = whole.run().state_dict()

    def stop_at_8(_, epoch, total):
        if epoch == 8:
            raise Stop

    path = tmp_path / "training.pt"
    with pytest.raises(Stop):
        ClassifierTraining(clusters(), clusters(seed=1), num_classes=3, options=OPTIONS, checkpoint=path).run(
            progress=stop_at_8
        )
    epochs = []
    torch.manual_seed(99)
    again = ClassifierTraining(clusters(), clusters(seed=1), num_classes=3, options=OPTIONS, checkpoint=path)
    found = again.run(progress=lambda *given: epochs.append(given[1:])).state_dict()
    assert epochs[0] == (5, 12)  # of the last evaluation, not from the start
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert (again.best_epoch, again.best_accuracy) == (whole.best_epoch, whole.best_accuracy)
    with pytest.raises(ValueError, match="begun with other embeddings or options"):
        ClassifierTraining(clusters(seed=3), clusters(seed=1), num_classes=3, options=OPTIONS, checkpoint=path)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    ClassifierTraining(clusters(), clusters(seed=1), num_classes=3, options=OPTIONS).run()
    assert torch.equal(torch.rand(1), expected)


def test_a_last_batch_of_one_sample_is_left_out():
    training = ClassifierTraining(clusters(33), clusters(seed=1), num_classes=3, options=OPTIONS)
    training.run()
    assert training.scheduler.last_epoch == 12


def test_saved_and_loaded(tmp_path):
    network = EmbeddingClassifier(4, 2, hidden=(3,)).eval()
    save_classifier(network, tmp_path, class_ids=["b", "a"], about={"seed": 7})
    again, classes = load_classifier(tmp_path)
    values = torch.randn(5, 4)
    assert classes == ("b", "a")
    torch.testing.assert_close(again(values), network(values))


NAN = clusters()[0].clone()
NAN[3, 1] = math.nan


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ((NAN, clusters()[1]), clusters(), "training embedding 3 has NaN or infinity"),
        (clusters(), (torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64)), "the validation set is empty"),
        ((clusters()[0], clusters()[1] + 1), clusters(), "training labels run from 1 to 3; expected 0 to 2"),
        (clusters(), clusters(width=9), r"embeddings have shape \[120, 9\]; expected \(n, 8\)"),
        ((clusters()[0], clusters()[1][:7]), clusters(), r"labels \[7\]; expected \(n, D\) and \(n,\)"),
        (clusters(1), clusters(), "has 1 embedding; expected 2 or more"),
    ],
)
def test_bad_sets(train, val, message):
    with pytest.raises(ValueError, match=message):
        ClassifierTraining(train, val, num_classes=3)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch_size": 1}, {"dropout": 1.0}, {"hidden": (0,)}, {"learning_rate": 0.0}]
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*; expected"):
        ClassifierOptions(**options)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_classifier(tmp_path / "absent.pt")
    write_pth_content({"net": {"net.0.weight": torch.zeros(3, 2)}}, tmp_path / "short.pt")
    with pytest.raises(ValueError, match=r"short.pt: no weights of a classifier .* expected net.0, net.1"):
        load_classifier(tmp_path / "short.pt")
    write_pth_content({"encoder": {"a": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt: no weights of a classifier"):
        load_classifier(tmp_path / "other.pt")
    write_pth_content({"net": EmbeddingClassifier(4, 5).state_dict()}, tmp_path / "five.pt")
    with pytest.raises(ValueError, match="has 5 classes without names; expected 13"):
        load_classifier(tmp_path / "five.pt")
    write_safetensors(EmbeddingClassifier(4, 2).state_dict(), tmp_path / "dir" / "model.safetensors")
    write_json({"class_ids": ["a"]}, tmp_path / "dir" / "config.json")
    with pytest.raises(ValueError, match="names 1 classes and has 2 logits"):
        load_classifier(tmp_path / "dir")

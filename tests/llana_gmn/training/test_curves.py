import json

import pytest

from llana_gmn.training.curves import draw_losses, loss_figure

pytest.importorskip("matplotlib")


def test_losses_of_the_last_checkpoint_are_drawn(tmp_path):
    history = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": 1.5}, {"step": 20, "eval_loss": 1.8}]
    for step, members in ((10, history[:1]), (20, history)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"log_history": members}))
    (axes,) = loss_figure([tmp_path]).axes
    training, held_out = axes.lines
    assert training.get_xydata().tolist() == [[10, 2.0], [20, 1.5]]
    assert held_out.get_xydata().tolist() == [[20, 1.8]]
    assert training.get_label() == f"{tmp_path.name}, training"
    draw_losses([str(tmp_path)], out=tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: has no checkpoint"):
        loss_figure([tmp_path])

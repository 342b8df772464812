from __future__ import annotations

import pytest

from llana_eval.captioning.answers import answers_html, spread
from llana_eval.pages import write_page

NASTY = '<script>alert("x")</script> & a|b_c 50% \\ {z}'


def test_gallery_escapes_and_needs_nothing_else(tmp_path):
    from gmn_encoder.nerfs.files import save_nerf
    from gmn_encoder.nerfs.record import Nerf

    save_nerf(Nerf.random("MLP-32H"), tmp_path / "nerf")
    result = dict.fromkeys(("object_id", "question", "ground_truth", "model_output"), NASTY) | {
        "scores": {"bleu-1": 1.25}
    }
    nerfs = [tmp_path / "nerf", tmp_path / "a.npy", tmp_path / "none"]
    errors = []
    path = tmp_path / "g.html"
    write_page(path, NASTY, more=answers_html([result] * 3, nerfs, on_error=errors.append))
    page = path.read_text()
    assert "<script" not in page
    assert page.count("data:image/png;base64,iVBOR") == 1
    assert page.count("no view") == 2
    assert page.count("BLEU-1 1.2") == 3
    assert "http" not in page
    assert len(errors) == 1 and "none" in str(errors[0])
    with pytest.raises(ValueError, match="2 NeRFs came with 3 results"):
        answers_html([result] * 3, nerfs[:2])


def test_spread():
    assert spread(10, 3) == [0, 3, 6]
    assert spread(2, 5) == [0, 1]
    assert spread(5, 0) == []
    with pytest.raises(ValueError, match="must not be negative"):
        spread(5, -1)

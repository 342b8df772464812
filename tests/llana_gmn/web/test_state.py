from __future__ import annotations

import itertools
import os
import pickle
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from gmn_encoder.nerfs.families import MlpArchitecture
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import ChatSession
from llana_gmn.web import uploads
from llana_gmn.web.events import describe
from llana_gmn.web.options import ServiceOptions
from llana_gmn.web.state import MAX_UPLOADS, Service, without_paths
from tests.encoder.fitting.test_single import image_folder
from tests.encoder.nerfs.importers.files import blob_checkpoint

from .conftest import Here

CUBE = b"""ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
element face 4
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
0 1 0
0 0 1
3 0 2 1
3 0 1 3
3 0 3 2
3 1 2 3
"""


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def last(answers):
    return list(answers)[-1]


def test_conversations_are_a_visitors_own(service, tiny):
    first, second = service.session(), service.session()
    entries = service.gallery.entries
    first.choose(entries[0].key)
    second.choose(entries[1].key)
    said = [last(first.ask("What is it?")), last(second.ask("What is it?")), last(first.ask("Sure?"))]
    chat = ChatSession(*tiny, max_new_tokens=6)
    chat.add_nerf(entries[0].source)
    assert [chat.ask("What is it?"), chat.ask("Sure?")] == [said[0], said[2]]
    first.restart()
    assert last(first.ask("What is it?")) == said[0]


def test_answers_grow(service, session):
    session.choose(service.gallery.entries[0].key)
    pieces = list(session.ask("What is it?"))
    assert len(pieces) > 1
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(pieces))


def test_one_answer_at_a_time_and_one_left_early_frees_the_model(service):
    first, second = service.session(), service.session()
    for session in (first, second):
        session.choose(service.gallery.entries[0].key)
    unfinished = first.ask("What is it?")
    next(unfinished)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (last(second.ask("What is it?")), done.set()))
    thread.start()
    assert not done.wait(0.5)
    unfinished.close()
    assert done.wait(30)
    thread.join()


def test_questions_that_cannot_be_answered(service, session):
    with pytest.raises(ValueError, match="no NeRF is chosen"):
        last(session.ask("What is it?"))
    with pytest.raises(ValueError, match="no such NeRF"):
        session.choose("../../etc/passwd")
    session.choose(service.gallery.entries[0].key)
    with pytest.raises(ValueError, match="the question is empty"):
        last(session.ask("  "))
    with pytest.raises(ValueError, match="has 2001 characters; expected at most 2000"):
        last(session.ask("x" * 2001))
    assert last(session.ask("What is it?"))  # the visit goes on


def test_comparison_asks_about_each_and_both(service, session, tiny):
    a, b = service.gallery.entries[0], service.gallery.entries[4]
    together = ChatSession(*tiny, max_new_tokens=6)
    together.add_nerf(a.source)
    together.add_nerf(b.source)
    alone = ChatSession(*tiny, max_new_tokens=6)
    alone.add_nerf(b.source)
    answers = last(session.compare(a.key, b.key, "What is it?"))
    assert answers[1:] == [alone.ask("What is it?"), together.ask("What is it?")]
    assert last(session.compare(a.key, b.key, "What is it?", both=False))[2] == ""


def test_an_uploaded_nerf_is_chosen_and_only_its_visitors(service, session, sent):
    random = Nerf.random("HASH-nano", seed=7)
    opaque = {**random.tensors, "mlp_base.params": random.tensors["mlp_base.params"] * 10}
    path = sent("my chair.safetensors", Nerf(random.architecture, opaque))
    entry = session.upload(path)
    assert session.chosen is entry and entry.name == "my chair"
    assert path.exists()  # another visitor may have sent an equal file, which is the same one
    assert last(session.ask("What is it?"))
    assert Image.open(session.turntable(entry)).n_frames > 8 and session.is_turning(entry)
    assert entry.key not in [other.key for other, _ in session.neighbours()]
    with pytest.raises(ValueError, match="no such NeRF"):
        service.session().choose(entry.key)
    folder = next(parent for parent in entry.source.parents if parent.parent.name == "uploads")
    assert folder.is_dir()
    session.close()
    assert not folder.exists()


def test_old_uploads_make_room(session, sent, monkeypatch):
    monkeypatch.setattr("llana_gmn.web.state.MAX_UPLOADS", 2)
    assert MAX_UPLOADS > 2
    made = [session.upload(sent(f"{seed}.pth", Nerf.random("MLP-nano", seed=seed))) for seed in range(3)]
    assert session.uploads == [made[2], made[1]]
    assert not made[0].source.exists() and made[1].source.exists()


@pytest.fixture
def quick_fits(service, monkeypatch):
    from gmn_encoder.fitting import distil_object, presets, quality

    quick = {**presets._BY_PRESET["nano"], "iterations": 20, "views": 6, "size": 32}
    monkeypatch.setitem(presets._BY_PRESET, "nano", quick)
    monkeypatch.setitem(quality.LEAST_PSNR, "nano", 0.0)
    monkeypatch.setattr(distil_object, "_VIEWS", 6)
    monkeypatch.setattr(distil_object, "_COARSE", 24)
    monkeypatch.setattr(service, "isolation", Here())


def zipped(path, content):
    """An archive of files, of a folder, or of what both are by name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            files = sorted(file for file in data.rglob("*") if file.is_file()) if isinstance(data, Path) else []
            for file in files:
                archive.write(file, f"{name}/{file.relative_to(data).as_posix()}")
            if not files:
                archive.writestr(name, data)
    return path


def test_a_mesh_is_fitted_and_described(session, sent, quick_fits):
    steps = []
    entry = session.upload(sent("thing.ply", CUBE), family="triplane", progress=lambda *step: steps.append(step))
    assert entry.family == "triplane" and entry.name == "thing"
    assert steps[-1][1:] == (20, 20) and steps[-1][0].endswith("dB")
    assert last(session.ask("What is it?"))
    assert any("is taken to point up" in note for note in entry.notes)
    shown = describe(entry, "an odd one").splitlines()
    assert shown[1].strip() == "an odd one" and any("is taken to point up" in line for line in shown[2:])
    assert not any("override" in line for line in shown)  # which is for the command line


def test_what_else_is_fitted_first(service, session, tmp_path, quick_fits):
    """A checkpoint of another program, under a NeRF's extension too, photographs with cameras, a mesh in a folder."""
    blob_checkpoint(tmp_path / "blob.pth")
    folder = image_folder(tmp_path / "cup", size=16)
    sent = [
        tmp_path / "blob.pth",
        blob_checkpoint(tmp_path / "ball.ckpt"),
        zipped(tmp_path / "photos.zip", {"my cup": folder, "__MACOSX/._x": b"x", "notes.txt": b"x"}),
        zipped(tmp_path / "mesh.zip", {"a/thing.ply": CUBE}),
    ]
    for path in sent:
        entry = session.upload(path)
        assert (entry.name, entry.family) == (path.stem, "hash") and session.chosen is entry
        assert sorted(file.name for file in entry.source.parent.iterdir()) == ["nerf.safetensors"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"../up.ply": CUBE}, r"has the member '\.\./up\.ply', which leads elsewhere"),
        ({"/etc/up.ply": CUBE}, ".*which leads elsewhere"),
        ({"notes.txt": b"x"}, "holds no object; expected one"),
        ({"a.ply": CUBE, "b/c.obj": b"v 0 0 0"}, r"holds 2 objects \(a\.ply, b/c\.obj\); expected one"),
        ({f"{i}.txt": b"" for i in range(uploads.MAX_MEMBERS + 1)}, "has 10,001 files; expected at most 10,000"),
        ({"a": b"x", "a/b.ply": CUBE}, "is no zip archive that can be unpacked"),
    ],
)
def test_archives_that_are_refused(session, tmp_path, content, message):
    before = set(tmp_path.parent.iterdir())
    with pytest.raises(ValueError, match=rf"odd\.zip: {message}") as error:
        uploads.opened(zipped(tmp_path / "odd.zip", content), max_bytes=1 << 20)
    assert set(tmp_path.parent.iterdir()) == before and "Traceback" not in str(error.value)


def test_links_and_broken_archives_are_refused(tmp_path):
    link = zipfile.ZipInfo("link.ply")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    cut = zipped(tmp_path / "cut.zip", {"a.ply": CUBE})
    cut.write_bytes(cut.read_bytes()[:-10])
    flipped = zipped(tmp_path / "flipped.zip", {"a.ply": bytes(range(256)) * 64})
    data = bytearray(flipped.read_bytes())
    data[60] ^= 0xFF
    flipped.write_bytes(data)
    (tmp_path / "no.zip").write_bytes(b"hello")
    for name, message in (("link", "leads elsewhere"), ("cut", "no zip"), ("flipped", "no zip"), ("no", "no zip")):
        with pytest.raises(ValueError, match=rf"{name}\.zip: .*{message}"):
            uploads.unpack(tmp_path / f"{name}.zip", tmp_path / name, max_bytes=1 << 20)


def test_refused_uploads_say_why_run_nothing_and_leave_nothing(service, session, sent, tmp_path):
    before = session.uploads
    cases = {
        (
            "notes.docx",
            b"PK",
        ): r"notes\.docx: unknown extension '\.docx'; expected a NeRF \(.*\), a mesh \(.*\), a field",
        ("text.glb", b"hello"): r"text\.glb: is no glTF, or cut short",
        ("big.pth", bytes((1 << 20) + 1)): r"big\.pth: has 1\.0 MiB; expected at most 1 MiB",
        ("empty.safetensors", b""): r"empty\.safetensors: is empty",
        (
            "bomb.pth",
            pickle.dumps({"mlp_base.params": Bomb(tmp_path / "ran")}),
        ): r"bomb\.pth: refused, .*nothing was executed",
        ("noise.pth", b"\x00" * 100): r"noise\.pth: ",
    }
    for (name, content), message in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            session.upload(sent(name, content))
        assert str(service.folder) not in str(error.value) and str(tmp_path) not in str(error.value)
    assert not (tmp_path / "ran").exists()
    assert session.uploads == before
    assert not list((service.folder / "uploads").rglob("bomb.pth"))


def test_uploads_that_are_larger_than_they_look(session, sent, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"zip\.zip: unpacks to 8 MiB; expected at most 4 MiB"):
        session.upload(zipped(tmp_path / "zip.zip", {"a.ply": bytes(8 << 20)}))
    with (
        monkeypatch.context() as patch,
        pytest.raises(ValueError, match=r"a\.pth: has [\d,]+ weights; expected at most 9"),
    ):
        patch.setattr(uploads, "MAX_WEIGHTS", 9)
        uploads.read_nerf(sent("a.pth", Nerf.random("MLP-nano")))
    one = torch.zeros(1).expand(3, 4000, 4000, 16)  # a storage of four bytes
    torch.save({"mlp_base.params": torch.zeros(4), "encoding.params": one}, tmp_path / "strides.pth")
    with pytest.raises(
        ValueError, match=r"strides\.pth: holds a tensor of 768,000,000 elements that are not all there"
    ):
        session.upload(tmp_path / "strides.pth")


def test_a_mesh_reads_no_file_of_the_server(session, sent, tmp_path):
    """Buffers of a .gltf may name files; an upload stands alone, and none outside is read."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(range(36)))
    gltf = (
        '{"asset":{"version":"2.0"},"buffers":[{"uri":"%s","byteLength":36}],'
        '"bufferViews":[{"buffer":0,"byteOffset":0,"byteLength":36}],'
        '"accessors":[{"bufferView":0,"componentType":5126,"count":3,"type":"VEC3"}],'
        '"meshes":[{"primitives":[{"attributes":{"POSITION":0}}]}],"nodes":[{"mesh":0}],"scenes":[{"nodes":[0]}],"scene":0}'
    )
    for uri in (str(secret), "../" * 12 + str(secret).lstrip("/")):
        with pytest.raises(
            ValueError, match=r"leak\.gltf: its buffer 0 is at .*(outside the folder|expected a file beside it)"
        ):
            session.upload(sent("leak.gltf", (gltf % uri).encode()))


def test_a_conversation_that_is_full_names_what_the_page_has(service, session, monkeypatch):
    session.choose(service.gallery.entries[0].key)
    monkeypatch.setattr(service.model.config.get_text_config(), "max_position_embeddings", 20)
    with pytest.raises(ValueError, match="the backbone reads 20; start a new one: press New conversation") as error:
        last(session.ask("What is it?"))
    assert "/reset" not in str(error.value)


def test_keys_are_random_and_sentences_without_paths(service, gallery_path, tiny):
    with Service(*tiny, isolation=Here()) as other:
        other.gallery.fill(gallery_path, limit=1)
        assert other.gallery.entries[0].key != service.gallery.entries[0].key
    said = without_paths("cannot read '/srv/a b/model.bin': no, see http://x.org/y/z or a/b, /tmp/llana/x.pth: gone")
    assert said == "cannot read 'model.bin': no, see http://x.org/y/z or a/b, x.pth: gone"


def test_old_files_of_all_visitors_make_room(service, sent, monkeypatch):
    monkeypatch.setattr("llana_gmn.web.state.MAX_KEPT", 1)
    monkeypatch.setattr(service, "isolation", Here())
    first, second = service.session("1.2.3.4"), service.session("5.6.7.8")
    old = first.upload(sent("old.pth", Nerf.random("MLP-nano", seed=1)))
    new = second.upload(sent("new.pth", Nerf.random("MLP-nano", seed=2)))
    assert not old.source.exists() and new.source.exists()
    assert first.still(old) is None and first.turntable(old) is None
    assert last(first.ask("What is it?"))  # its embedding is enough


def test_the_folder_goes_with_the_service(tiny):
    with Service(*tiny) as service:
        folder = service.folder
        (folder / "uploads").mkdir()
        (folder / "uploads" / "x").write_text("x")
    assert not folder.exists()
    with pytest.raises(ValueError, match="limited to 0 bytes"):
        ServiceOptions(max_upload=0)


def test_weights_of_the_largest_architecture_are_taken():
    from gmn_encoder import PAPER_ARCHITECTURES

    assert max(each.num_parameters for each in PAPER_ARCHITECTURES.values()) < uploads.MAX_WEIGHTS
    assert MlpArchitecture().num_parameters < uploads.MAX_WEIGHTS

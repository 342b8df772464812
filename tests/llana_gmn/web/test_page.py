"""The server as a client sees it: over HTTP, without a browser."""

from __future__ import annotations

import base64
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pytest

from gmn_encoder.nerfs.record import Nerf
from llana_gmn.commands import main
from llana_gmn.web.access import AccessOptions
from llana_gmn.web.options import ServiceOptions
from llana_gmn.web.state import Service

from .conftest import SMALL, Here
from .test_state import CUBE, Bomb

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")

from llana_gmn.web.server import running  # noqa: E402


@pytest.fixture(scope="module")
def address(service):
    with running(service, port=0) as address:
        yield address


@pytest.fixture
def another(tiny, gallery_path):
    """A service for a server of its own, which stops it."""
    options = ServiceOptions(max_upload=1 << 20, sizes=SMALL, generation={"max_new_tokens": 6})
    with Service(*tiny, options=options, isolation=Here()) as service:
        service.gallery.fill(gallery_path, limit=2)
        yield service


@pytest.fixture
def client(address):
    return gradio_client.Client(address, verbose=False, analytics_enabled=False)


def upload(client, path):
    return client.predict(gradio_client.handle_file(str(path)), "hash", None, api_name="/upload")


def test_answers_are_streamed(client, service, session):
    job = client.submit("What is it?", [], api_name="/ask")
    final = job.result(timeout=60)
    answers = [update[-1][-1]["content"] for update in job.outputs()]
    session.choose(service.gallery.entries[0].key)  # what a visitor begins with
    expected = list(session.ask("What is it?"))
    texts = [answer if isinstance(answer, str) else answer[0]["text"] for answer in answers]
    assert len(texts) > 1 and texts[-1] == expected[-1]
    assert all(text in expected for text in texts)
    assert final[0] == ""


def test_comparison_and_pictures(client, service):
    keys = [entry.key for entry in service.gallery.entries[:2]]
    answers = client.predict(*keys, "What is it?", True, api_name="/compare")
    assert len(answers) == 3 and all(answers)
    picture, facts, near = client.predict(api_name="/show")
    assert str(picture).endswith(".gif") and "weights" in facts and len(near) == 5


def test_uploads(client, sent, tmp_path):
    upload(client, sent("mine.safetensors", Nerf.random("HASH-nano", seed=5)))
    assert "mine" in client.predict(api_name="/show")[1]
    cases = {
        ("bomb.pth", pickle.dumps({"mlp_base.params": Bomb(tmp_path / "ran")})): "refused, .*nothing was executed",
        ("text.glb", b"hello"): "is no glTF",
        ("page.html", b"<script>"): "unknown extension '.html'",
    }
    for (name, content), message in cases.items():
        with pytest.raises(Exception, match=message) as error:
            upload(client, sent(name, content))
        assert "Traceback" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_too_large_an_upload_is_cut_off_on_the_way(address, service):
    """A client that does not ask first, as Gradio's own do, is refused while it sends."""
    head = b'--cut\r\nContent-Disposition: form-data; name="files"; filename="big.pth"\r\n\r\n'
    body = head + bytes(service.options.max_upload + 1) + b"\r\n--cut--\r\n"
    request = urllib.request.Request(
        f"{address}gradio_api/upload", data=body, headers={"Content-Type": "multipart/form-data; boundary=cut"}
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 413 and b"maximum allowed size" in error.value.read()


def test_errors_of_the_program_are_not_shown(client, service, monkeypatch, caplog):
    def fail(*arguments, **keywords):
        raise KeyError("a secret of the server")

    monkeypatch.setattr(type(service), "continue_chat", fail)
    with pytest.raises(Exception, match="Something failed on the server") as error:
        client.predict("What is it?", [], api_name="/ask")
    assert "secret" not in str(error.value)
    assert "a secret of the server" in caplog.text


def test_a_visitor_who_leaves_does_not_block_others(address, client, service, monkeypatch):
    monkeypatch.setitem(service.options.generation, "max_new_tokens", 400)
    leaving = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    job = leaving.submit("What is it?", [], api_name="/ask")
    while not job.outputs():
        time.sleep(0.05)
    job.cancel()
    monkeypatch.setitem(service.options.generation, "max_new_tokens", 4)
    assert client.submit("What is it?", [], api_name="/ask").result(timeout=60)


def test_nothing_comes_from_elsewhere(address):
    with urllib.request.urlopen(address) as response:
        html, headers = response.read().decode(), response.headers
    assert "Talk to a NeRF" in html
    fetched = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"'](?:https?:)?//([^/\"']+)", html)
    assert [host for host in fetched if not host.startswith("127.0.0.1")] == []
    for name in ("googleapis", "gstatic", "cdnjs"):
        assert name not in html
    assert "default-src 'self'" in headers["content-security-policy"]
    with urllib.request.urlopen(f"{address}theme.css") as response:
        assert "http" not in re.sub(r"http://www\.w3\.org\S*", "", response.read().decode())


def test_files_of_the_server_are_not_served(address, service, gallery_path):
    for path in ("/etc/passwd", str(gallery_path / "hash"), __file__):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{address}gradio_api/file={path}")
        assert error.value.code in (403, 404)


def ask_for(address, path="", **headers):
    """Status, headers, body of a GET, whatever they are."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{address}{path}", headers=headers)) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_other_sites_are_refused(address):
    assert ask_for(address)[0] == 200
    assert ask_for(address, Host="evil.example")[0] == 421
    status, headers, _ = ask_for(address, "config", Origin="http://evil.example")
    assert status == 403 and not [name for name in headers if name.lower().startswith("access-control")]
    own = address.rstrip("/")
    status, headers, _ = ask_for(address, "config", Origin=own)
    assert status == 200 and not [name for name in headers if name.lower().startswith("access-control")]
    preflight = urllib.request.Request(f"{address}gradio_api/queue/join", method="OPTIONS")
    for name, value in {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}.items():
        preflight.add_header(name, value)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(preflight)
    assert error.value.code == 403


def test_only_what_the_page_needs_is_open(address):
    for path in (
        "monitoring",
        "docs",
        "openapi.json",
        "gradio_api/openapi.json",
        "gradio_api/proxy=http://127.0.0.1/",
        "gradio_api/vibe-code",
        "gradio_api/component_server",
        "gradio_api/run/ask",
        "login",
    ):
        assert ask_for(address, path)[0] == 404, path


def test_no_response_names_a_path_of_the_server(address, client, service, sent, monkeypatch):
    """All that a visit reads, byte by byte."""
    import httpx

    read, stream = [], httpx.Response.iter_raw

    def listen(response, *arguments, **keywords):
        for chunk in stream(response, *arguments, **keywords):
            read.append(chunk)
            yield chunk

    monkeypatch.setattr(httpx.Response, "iter_raw", listen)
    visitor = gradio_client.Client(address, verbose=False, analytics_enabled=False, download_files=False)
    upload(visitor, sent("mine.pth", Nerf.random("MLP-nano", seed=5)))
    for name, content in (("bad.pth", b"nothing"), ("bad.glb", b"hello"), ("a/../../b.pth".replace("/", "_"), b"")):
        with pytest.raises(Exception, match=name.partition(".")[0]):
            upload(visitor, sent(name, content))
    picture, _, near = visitor.predict(api_name="/show")
    visitor.predict("What is it?", [], api_name="/ask")
    for path in ("", "config", "gradio_api/info", "gradio_api/nothing", "gradio_api/file=/etc/passwd", "theme.css"):
        read.append(ask_for(address, path)[2])
        read.append(str(ask_for(address, path)[1]).encode())
    everything = b"".join(read)
    assert b"/served/" in everything and b"weights" in everything
    for path in (
        service.folder,
        service.folder.parent,
        tempfile.gettempdir(),
        sys.prefix,
        os.getcwd(),
        os.path.expanduser("~"),
    ):
        assert str(path).encode() + b"/" not in everything, path
    assert picture["path"].startswith("/served/") and near[0]["image"]["path"].startswith("/served/")
    status, headers, body = ask_for(address, f"gradio_api/file={picture['path']}")
    assert status == 200 and body.startswith(b"GIF89a") and headers["x-content-type-options"] == "nosniff"


def test_too_many_requests(another):
    with running(another, port=0, access=AccessOptions(rate=3)) as address:
        request = urllib.request.Request(
            f"{address}gradio_api/queue/join", data=b"{}", headers={"Content-Type": "application/json"}
        )
        seen = []
        for _ in range(5):
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(request)
            seen.append(error.value.code)
        assert seen == [422, 422, 422, 429, 429]
        assert ask_for(address)[0] == 200
        large = urllib.request.Request(
            f"{address}gradio_api/queue/join", data=bytes(2 << 20), headers={"X-Forwarded-For": "9.9.9.9"}
        )
        with pytest.raises(
            urllib.error.URLError
        ) as error:  # said before all of it was sent, which a client may not hear
            urllib.request.urlopen(large)
        assert getattr(error.value, "code", 413) == 413


def test_a_password_closes_everything(another):
    with running(another, port=0, access=AccessOptions(password="ada:lovelace")) as address:
        for path in (
            "",
            "config",
            "theme.css",
            "gradio_api/info",
            "gradio_api/startup-events",
            "gradio_api/queue/status",
            "x",
        ):
            assert ask_for(address, path)[0] == 401, path
        given = {"Authorization": "Basic " + base64.b64encode(b"ada:lovelace").decode()}
        assert ask_for(address, **given)[0] == 200
        known = gradio_client.Client(address, verbose=False, analytics_enabled=False, headers=given)
        assert "weights" in known.predict(api_name="/show")[1]


def test_ports_that_are_taken(service, address):
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"cannot be listened on .*name another --port"):
            running(service, port=taken.getsockname()[1]).__enter__()
    with pytest.raises(ValueError, match="port is 70000; expected 0 to 65535"):
        running(service, port=70000).__enter__()
    assert port > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", "best"], "--quality is 'best'; expected one of nano"),
        (["--beams", "2"], "--beams is 2"),
        (["--max-upload", "0"], "uploads are limited to 0 bytes"),
        (["--max-new-tokens", "0"], "must be at least 1"),
        (["--upload-seconds", "0"], "uploads are limited to 0.0 seconds"),
        (["--host", "0.0.0.0"], "--host is 0.0.0.0, which other machines reach; add --auth USER:PASSWORD"),
        (["--host", "::"], "or --no-auth to let everyone in"),
        (["--no-auth", "--auth", "a:b"], "contradict each other"),
        (["--auth", "nobody"], "another form than USER:PASSWORD"),
        (["--auth", "@/nowhere/at/all"], "cannot be read; expected a file with USER:PASSWORD"),
        (["--allow-host", "http://x"], "'http://x' is no host name"),
    ],
)
def test_command_refuses(options, message, capsys):
    assert main(["serve", "--model", "x", "--nerfs", "y", *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "during an upload"])
def test_command_serves_until_it_is_told_to_end(tiny_folder, gallery_path, tmp_path, busy):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "TMPDIR": str(temporary)}
    arguments = ["--model", str(tiny_folder), "--nerfs", str(gallery_path), "--limit", "2", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "llana_gmn", "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        line = process.stdout.readline()
        assert re.match(r"http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)", line), process.stderr.read()
        assert list(temporary.glob("llana-gmn-serve-*"))
        with urllib.request.urlopen(line.split()[0]) as response:
            assert response.status == 200
        if busy:
            mesh = tmp_path / "cube.ply"
            mesh.write_bytes(CUBE)
            visitor = gradio_client.Client(line.split()[0], verbose=False, analytics_enabled=False)
            visitor.submit(gradio_client.handle_file(str(mesh)), "hash", None, api_name="/upload")
            while not list(temporary.glob("llana-gmn-serve-*/uploads/*/*/fit")):
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        said = process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in said and "rror" not in said, said
    assert not list(temporary.glob("llana-gmn-serve-*"))

"""Many visitors at once: questions, uploads, hostile files and people who leave.

Everybody gets the answer that they would have got alone, the server keeps its memory, and nobody waits long for a lock. How long
visitors wait in line for the one model is said too: that depends on the machine, and is not asked for.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import httpx
import pytest
import torch

from gmn_encoder.files import write_safetensors
from gmn_encoder.nerfs.files import find_nerfs, load_nerf, save_nerf
from gmn_encoder.nerfs.record import Nerf
from llana_gmn import ChatSession
from llana_gmn.web.gallery import choose

from .test_state import Bomb

pytest.importorskip("gradio")

QUESTIONS = ("What is this object?", "What colour is it? </s> <nerf>")
LOCK_SECONDS, GROWTH = 10.0, 64 << 20


class Greedy:
    def __reduce__(self):
        return (bytearray, (6_000_000_000,))


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    return [
        save_nerf(Nerf.random(name, seed=seed), folder / f"{name}-{seed}.{kind}")
        for seed, (name, kind) in enumerate([("MLP-nano", "pth"), ("HASH-nano", "safetensors"), ("TRI-nano", "pth")])
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    marker = folder / "ran"
    (folder / "code.pth").write_bytes(pickle.dumps({"mlp_base.params": Bomb(marker)}))
    (folder / "greedy.pth").write_bytes(pickle.dumps({"mlp_base.params": Greedy()}))
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "noise.pt").write_bytes(random.Random(0).randbytes(4096))
    (folder / "page.html").write_bytes(b"<script>")
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(8 << 20))
    levels = json.dumps({"family": "hash", "levels": 1_000_000_000})
    write_safetensors({"x": torch.zeros(4)}, folder / "levels.safetensors", metadata={"nerf_architecture": levels})
    thin = {"mlp_base.params": torch.zeros(200_000), "encoding.params": torch.zeros(64)}
    torch.save(thin, folder / "thin.pth")
    (folder / "hello.glb").write_bytes(b"hello")
    return marker, [path for path in folder.iterdir() if path != marker]


@pytest.fixture(scope="module")
def expected(tiny, gallery_path, uploads):
    """File, or None for the first of the gallery -> the answers to both questions."""
    first = choose(find_nerfs(gallery_path), 60)[0]
    answers = {}
    for key, path in [(None, first), *((path.name, path) for path in uploads)]:
        chat = ChatSession(*tiny, max_new_tokens=6)
        chat.add_nerf(load_nerf(path))
        answers[key] = [chat.ask(question) for question in QUESTIONS]
    return answers


@pytest.fixture
def server(tiny_folder, gallery_path):
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.many_server", str(tiny_folder), str(gallery_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Visitor:
    """One who comes again and again, each time as somebody new to the page."""

    def __init__(self, address, number, seen):
        self._address, self._seen, self._random = address, seen, random.Random(number)
        headers = {"X-Forwarded-For": f"10.0.{number // 250}.{number % 250 + 1}"}
        self._client = httpx.AsyncClient(base_url=address, headers=headers, timeout=600)

    async def stay(self, until, uploads, hostile, expected):
        async with self._client:
            config = (await self._client.get("config")).json()
            self._events = {each["api_name"]: each["id"] for each in config["dependencies"] if each["api_name"]}
            while time.monotonic() < until:
                self._session = f"{self._random.getrandbits(60):x}"
                what = self._random.choices(("talk", "upload", "hostile", "leave", "drop"), (6, 2, 2, 1, 1))[0]
                began = time.monotonic()
                if what == "talk":
                    await self._talk(expected[None])
                elif what == "upload":
                    path = self._random.choice(uploads)
                    if await self._upload(path):
                        await self._talk(expected[path.name])
                elif what == "hostile":
                    path = self._random.choice(hostile)
                    assert not await self._upload(path), path
                elif what == "leave":
                    await self._event("ask", [None, QUESTIONS[0], []], leave=True)
                else:
                    await self._drop(self._random.choice(uploads))
                self._seen["done"][what] += 1
                self._seen["seconds"].setdefault(what, []).append(time.monotonic() - began)

    async def _talk(self, answers):
        for question, answer in zip(QUESTIONS, answers, strict=True):
            done = await self._event("ask", [None, question, []])
            if not done["success"]:
                self._refused(done)
                return
            said = done["output"]["data"][2][-1]["content"]
            said = said if isinstance(said, str) else said[0]["text"]
            assert said.strip() == answer.strip(), (question, said, answer)

    async def _upload(self, path):
        response = await self._client.post("gradio_api/upload", files={"files": (path.name, path.read_bytes())})
        assert response.status_code == 200, response.text
        file = {"path": response.json()[0], "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
        done = await self._event("upload", [None, file, "hash", None])
        if not done["success"]:
            said = str(done["output"]["error"])
            assert "/tmp" not in said and "Traceback" not in said and "on the server" not in said, said
            if path.stem in said:
                self._seen["said"][said] += 1
        return done["success"]

    def _refused(self, done):
        self._seen["refused"][str(done["output"].get("error"))] += 1

    async def _event(self, name, data, *, leave=False):
        body = {"data": data, "fn_index": self._events[name], "session_hash": self._session}
        joined = await self._client.post("gradio_api/queue/join", json=body)
        if joined.status_code == 503:
            return {"success": False, "output": {"error": joined.json()["detail"]}}
        assert joined.status_code == 200, joined.text
        came = time.monotonic()
        url = f"gradio_api/queue/data?session_hash={self._session}"
        async with self._client.stream("GET", url) as response:
            async for line in response.aiter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_starts":
                    self._seen["queue"].append(time.monotonic() - came)
                    if leave:
                        return None
                if message.get("msg") == "process_completed":
                    return message
        raise AssertionError(f"no answer to {name}")

    async def _drop(self, path):
        """Stop in the middle of an upload."""
        host, _, port = self._address.removeprefix("http://").strip("/").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 500000\r\n"
            "Content-Type: multipart/form-data; boundary=cut\r\n\r\n"
            f'--cut\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
        )
        writer.write(head.encode() + bytes(100_000))
        await writer.drain()
        writer.close()


def memory(process):
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096


async def visit(server, address, count, seconds, uploads, hostile, expected):
    seen = {"done": Counter(), "said": Counter(), "refused": Counter(), "queue": [], "seconds": {}, "memory": []}
    until = time.monotonic() + seconds
    visitors = [
        asyncio.create_task(Visitor(address, number, seen).stay(until, uploads, hostile, expected))
        for number in range(count)
    ]
    everybody = asyncio.gather(*visitors)
    while not everybody.done():
        seen["memory"].append(memory(server))
        await asyncio.sleep(1)
    await everybody
    return seen


def spread(values):
    values = sorted(values) or [0.0]
    at = [values[min(int(len(values) * share), len(values) - 1)] for share in (0.5, 0.9, 0.99, 1)]
    return f"{len(values)} times, median {at[0]:.2f} s, 90 % {at[1]:.2f}, 99 % {at[2]:.2f}, most {at[3]:.2f}"


@pytest.mark.parametrize(
    ("count", "seconds"), [(6, 5), pytest.param(50, 120, marks=pytest.mark.slow)], ids=["few", "fifty"]
)
def test_everybody_gets_their_own_answer(server, uploads, hostile, expected, count, seconds):
    marker, files = hostile
    address = server.stdout.readline().strip()
    assert address, server.stderr.read()
    began = time.monotonic()
    asyncio.run(visit(server, address, min(count, 8), min(seconds, 10), uploads, files, expected))  # to warm up
    seen = asyncio.run(visit(server, address, count, seconds, uploads, files, expected))
    took = time.monotonic() - began
    out, errors = server.communicate("")
    waits = json.loads(out.strip().splitlines()[-1])
    mebibytes = [size >> 20 for size in seen["memory"]]
    lines = [
        f"{count} visitors, {took:.0f} s: {dict(seen['done'])}; refused: {dict(seen['refused'])}",
        f"memory: {mebibytes[0]} MiB to {max(mebibytes)}, at the end {mebibytes[-1]}",
        *(
            f"{name}: {spread(each)}"
            for name, each in {**waits, "Gradio's queue": seen["queue"], **seen["seconds"]}.items()
        ),
        *(f"{times} x {said}" for said, times in seen["said"].items()),
    ]
    sys.stdout.write("\n".join(["", *lines, ""]))
    assert seen["done"]["talk"] and not marker.exists()
    assert "Traceback" not in errors, errors
    assert not [said for said in seen["said"] if "No such file" in said]  # equal files of two visitors are one file
    assert max(waits["locks"], default=0.0) < LOCK_SECONDS
    half = len(seen["memory"]) // 2
    assert max(seen["memory"][half:]) - max(seen["memory"][: half + 1]) < GROWTH

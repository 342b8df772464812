"""The Hugging Face hub without a network: what would be uploaded is kept, and repositories lie in a cache of downloads."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest


class HubStub:
    """Takes the place of the hub's client where commits leave the machine.

    Attributes:
        files: content of what was uploaded, by repository and path in it.
        calls: method and arguments of every call, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        for method in ("create_repo", "create_branch", "upload_folder", "create_commit", "file_exists"):
            monkeypatch.setattr(huggingface_hub.HfApi, method, _bound(getattr(self, method)))

    def create_repo(self, repo_id: str, **options: Any) -> SimpleNamespace:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))
        self.files.setdefault(repo_id, {})
        return SimpleNamespace(repo_id=repo_id)

    def create_branch(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create_branch", {"repo_id": repo_id, **options}))

    def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> SimpleNamespace:
        self.calls.append(("upload_folder", {"repo_id": repo_id, **options}))
        for file in Path(folder_path).rglob("*"):
            if file.is_file():
                self.files[repo_id][file.relative_to(folder_path).as_posix()] = file.read_bytes()
        return SimpleNamespace(oid="0" * 40)

    def create_commit(self, *arguments: Any, **options: Any) -> None:
        raise AssertionError("transformers' own upload, which brings an empty card")

    def file_exists(self, repo_id: str, filename: str, **options: Any) -> bool:
        return filename in self.files.get(repo_id, {})

    def card(self, repo_id: str) -> str:
        return self.files[repo_id]["README.md"].decode()


def _bound(function: Any) -> Any:
    return lambda api, *arguments, **options: function(*arguments, **options)


def put_into_cache(cache: Path, name: str, files: Path, *, revision: str = "main", subfolder: str = "") -> str:
    """Lay a directory's files into a cache of downloads as a revision of a repository; returns the commit."""
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(f"{name} {revision}".encode()).hexdigest()
    reference = repository / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)
    shutil.copytree(files, repository / "snapshots" / commit / subfolder, dirs_exist_ok=True)
    return commit


def offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Nothing is asked on the network; downloads are looked for in a cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))

"""Uploads to the Hugging Face hub: the files that something saves, and a card that says what they are.

Nothing here runs unless somebody calls ``push_to_hub``. A card that a repository has is somebody's: it stays.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

CARD_NAME = "README.md"


def push(
    save: Callable[[Path], Any],
    repo_id: str,
    *,
    card: Callable[[str], str] | None,
    commit_message: str,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> Any:
    """Upload what `save` writes into a folder, as one commit.

    Args:
        save: writes the files into a directory that is there.
        repo_id: name of the repository, ``"owner/name"``; it is made where there is none.
        card: the card's text for a name, written where the repository has no card yet; None: no card is uploaded.
        commit_message, commit_description: what the history of the repository says.
        private: whether a new repository is; None for the owner's default.
        token: an access token; None or True for the one of ``hf auth login``.
        revision: branch to commit to; made where there is none.
        create_pr: whether to open a pull request instead.

    Returns:
        huggingface_hub's ``CommitInfo``.

    Raises:
        huggingface_hub's errors where it refuses: no token, no right to write there, no connection.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    name = api.create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
    if revision is not None and not revision.startswith("refs/"):
        api.create_branch(name, branch=revision, token=token, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save(folder)
        if card is None or api.file_exists(name, CARD_NAME, revision=revision, token=token):
            (folder / CARD_NAME).unlink(missing_ok=True)
        else:
            (folder / CARD_NAME).write_text(card(name), encoding="utf-8")
        return api.upload_folder(
            repo_id=name,
            folder_path=folder,
            commit_message=commit_message,
            commit_description=commit_description,
            token=token,
            revision=revision,
            create_pr=create_pr,
        )


def card_header(
    *,
    library_name: str,
    pipeline_tag: str | None = None,
    base_model: str | None = None,
    tags: Iterable[str] = (),
) -> str:
    """The metadata at the head of a card. The licence is ``unknown``: who uploads knows it.

    Args:
        library_name: the library that loads what the card is about.
        pipeline_tag: one of the hub's tasks.
        base_model: left out unless it is a name that the hub could know.
        tags: in order; doubles are left out.
    """
    lines = ["---", f"library_name: {library_name}", "license: unknown"]
    lines += [f"pipeline_tag: {pipeline_tag}"] if pipeline_tag else []
    lines += [f"base_model: {base_model}"] if base_model and is_hub_name(base_model) else []
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in dict.fromkeys(tags)), "---"]) + "\n"


def is_hub_name(name: str) -> bool:
    """Whether a model's name is ``owner/name``, with nothing of that name in the working directory."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None and not Path(name).exists()


def table(rows: Sequence[tuple[str, object]], head: tuple[str, str]) -> str:
    """A table of two columns in Markdown."""
    return "\n".join(f"| {left} | {right} |" for left, right in [head, ("---", "---"), *rows])

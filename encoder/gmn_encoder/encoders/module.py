"""What encoders that are torch modules share: their files, their fingerprint, batches of one architecture.

A kind inherits `EncoderModule`, names its ``config_class`` and defines ``encode`` and ``encode_tokens``; `base.NerfEncoder` says
what these mean.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..files import StrPath, named_errors, read_tensors, write_json, write_safetensors
from ..hub import push
from ..nerfs.record import Nerf, NerfBatch
from .base import EncoderConfig
from .card import encoder_card
from .files import CONFIG_NAME, WEIGHTS_NAME, check_fits, encoder_directory, read_config


class EncoderModule(nn.Module):
    """A torch module made from a configuration, which is saved with its weights."""

    config_class: ClassVar[type[EncoderConfig]]
    config: EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def embedding_dim(self) -> int:
        return self.config.embedding_dim

    @property
    def device(self) -> torch.device:
        return self._first_tensor().device

    @property
    def dtype(self) -> torch.dtype:
        return self._first_tensor().dtype

    def _first_tensor(self) -> Tensor:
        return next(itertools.chain(self.parameters(), self.buffers()))

    @torch.no_grad()
    def in_batches(
        self, step: Callable[[NerfBatch], Tensor], nerfs: Sequence[Nerf], *, shape: tuple[int, ...], batch_size: int
    ) -> Tensor:
        """Run a function over NeRFs of any mix of architectures.

        Args:
            step: receives stacked NeRFs of one architecture, on the encoder's device; returns ``(b, *shape)``.
            nerfs: the NeRFs, on any device.
            shape: the shape of one NeRF's result.
            batch_size: NeRFs of one architecture that are stacked at a time.

        Returns:
            ``(len(nerfs), *shape)`` in the order given, on the encoder's device, without gradient; float64 from a float64
            encoder, float32 otherwise.

        Raises:
            ValueError: a `batch_size` below 1, a NeRF that `check_nerf` refuses.
            TypeError: something that is no `Nerf`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        nerfs = [nerfs] if isinstance(nerfs, Nerf) else list(nerfs)
        by_architecture: dict[Any, list[int]] = {}
        for i, nerf in enumerate(nerfs):
            if not isinstance(nerf, Nerf):
                raise TypeError(
                    f"item {i} is a {type(nerf).__name__}; encode takes Nerf records (load_nerf reads files)"
                )
            self.check_nerf(nerf)
            by_architecture.setdefault(nerf.architecture, []).append(i)
        device, dtype = self.device, torch.promote_types(self.dtype, torch.float32)
        results = torch.empty(len(nerfs), *shape, dtype=dtype, device=device)
        for indices in by_architecture.values():
            for start in range(0, len(indices), batch_size):
                chunk = indices[start : start + batch_size]
                batch = NerfBatch.stack(nerfs[i].to(device) for i in chunk)
                results[torch.tensor(chunk, device=device)] = step(batch).to(dtype)
        return results

    def check_nerf(self, nerf: Nerf) -> None:
        """Raise `ValueError` for a NeRF that this encoder cannot read, whose weights are fine; most kinds read every one."""

    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights: equal for encoders that give equal embeddings, on any device."""
        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name, tensor in self.state_dict().items():
            digest.update(f"{name} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save_pretrained(self, path: StrPath) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a directory, atomically file by file."""
        path = Path(path)
        write_safetensors(self.state_dict(), path / WEIGHTS_NAME, metadata={"format": "pt"})
        write_json(self.config.to_dict(), path / CONFIG_NAME)

    def push_to_hub(
        self, repo_id: str, *, tags: Sequence[str] = (), commit_message: str = "Upload encoder", **options: Any
    ) -> Any:
        """Upload the encoder to the Hugging Face hub: the files of `save_pretrained`, and a card where there is none yet.

        Args:
            repo_id: name of the repository, ``"owner/name"``; it is made where there is none.
            tags: tags of a new card beside those of every encoder.
            commit_message: what the history of the repository says.
            **options: ``private``, ``token``, ``revision``, ``create_pr`` and ``commit_description``, as of transformers'
                ``push_to_hub``.

        Returns:
            huggingface_hub's ``CommitInfo``.
        """

        def card(name: str) -> str:
            return encoder_card(self.config, name, parameters=self._num_weights(), tags=tags)

        return push(self.save_pretrained, repo_id, card=card, commit_message=commit_message, **options)

    def _num_weights(self) -> int:
        return sum(tensor.numel() for tensor in self.state_dict().values())

    @classmethod
    def from_pretrained(
        cls,
        path: StrPath,
        *,
        config: EncoderConfig | None = None,
        revision: str | None = None,
        cache_dir: StrPath | None = None,
        token: bool | str | None = None,
        subfolder: str = "",
    ) -> Self:
        """Read an encoder of this kind, in evaluation mode on the CPU; `base.load_encoder` reads one of any kind.

        Args:
            path: a directory of `save_pretrained`, the name of such a repository on the Hugging Face hub, or a checkpoint file
                (`.pt` with the key ``encoder``).
            config: the configuration of a checkpoint file, where it cannot be read off the weights.
            revision, cache_dir, token, subfolder: as of `base.load_encoder`.

        Raises:
            FileNotFoundError: nothing there.
            ValueError: not an encoder of this kind, or one whose weights contradict its configuration.
        """
        path = Path(path)
        if path.is_file():
            source = path
            content, _ = read_tensors(source)
            state = content.get("encoder", content)
        else:
            directory = encoder_directory(
                path, revision=revision, cache_dir=cache_dir, token=token, subfolder=subfolder
            )
            source = directory / WEIGHTS_NAME
            config = config or cls._saved_config(directory)
            state, _ = read_tensors(source)
        with named_errors(source):
            config = config or cls.config_of_state(state)
            check_fits(cls, config, state)
            encoder = cls(config)
            encoder.load_state_dict(dict(state))
        return encoder.eval()

    @classmethod
    def _saved_config(cls, directory: Path) -> EncoderConfig:
        values = read_config(directory)
        with named_errors(directory / CONFIG_NAME):
            return cls.config_class.from_dict(values)

    @classmethod
    def config_of_state(cls, state: Mapping[str, Any]) -> EncoderConfig:
        """The configuration of a state dict that came without one, for kinds whose sizes can be read off their weights."""
        raise ValueError(f"holds weights alone; a {cls.__name__} is a directory with {CONFIG_NAME} and {WEIGHTS_NAME}")

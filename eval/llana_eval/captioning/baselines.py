"""Baselines of LLaNA's tables: a vision-language model that answers about a rendered view of each NeRF.

Source: LLaNA (Amaduzzi et al., 2024), which compares with models that read what was extracted from a NeRF. Any
image-text-to-text model of transformers with a chat template answers through `converse`, as ours does: same questions, turns,
batches and windows. Only what stands in the prompt is another thing, a picture instead of an embedding.

The view is rendered from the weights, never an image that the NeRF was fitted to: height and distance are those of the released
code's inspection view (docs/released_format.md#camera-model), and so is the side unless another is named, over white. The
model's processor scales it to what it reads.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from gmn_encoder.embeddings.files import is_embedding_file
from gmn_encoder.files import StrPath
from gmn_encoder.nerfs.files import load_nerf
from gmn_encoder.rendering.cameras import RELEASED_SIZE, orbit_pose, released_cameras
from gmn_encoder.rendering.pictures import nerf_pictures
from llana_gmn.checkpoints.loading import quantization_config

BASELINES = ("vlm",)
VIEW = "30 degrees up, 1.5 away, over white"
"""What every view has in common, in words, for the settings of a run."""
AZIMUTH = 90.0
"""The released inspection view's side, degrees: from +x."""


class ViewProcessor:
    """The processor of a vision-language model as `converse` uses one: a NeRF comes in, its view stands in the prompt.

    Args:
        processor: a processor of transformers with a tokenizer, an image processor and a chat template.
        model: the processor's model, which says on which device views are rendered and in which dtype pixels are passed.
        size: width and height of the view in pixels.
        azimuth: side that the view is from, degrees, as of `orbit_pose`: 90 from +x, 180 from -y.
    """

    def __init__(self, processor: Any, model: Any, *, size: int = RELEASED_SIZE, azimuth: float = AZIMUTH) -> None:
        self._processor, self._size = processor, size
        self._camera = released_cameras(orbit_pose(azimuth, -30.0)[None], size=size).to(model.device)
        self._device, self._dtype = model.device, model.dtype
        self._prompt_in_output = not model.config.is_encoder_decoder
        self.tokenizer = processor.tokenizer
        self.tokenizer.padding_side = "left"  # answers begin where all prompts of a batch end
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def check_model(self, config: Any) -> None:
        """Nothing to refuse: `load_vlm` reads model and processor from one place."""

    def read_nerf(self, item: StrPath, **options: Any) -> list[Tensor]:
        """The view of a NeRF file, uint8 ``(size, size, 3)``; what is done about empty fields is not asked for.

        Raises `FileNotFoundError` or `ValueError` for a file that cannot be read.
        """
        nerf = load_nerf(item).to(self._device)
        (picture,) = nerf_pictures(nerf, self._camera)
        return [torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(self._size, self._size, 3)]

    def apply_chat_template(self, conversations: Sequence[Sequence[Mapping[str, Any]]], **options: Any) -> Any:
        """The model's inputs for conversations of `conversation_messages`."""
        found = self._processor.apply_chat_template([_with_pictures(each) for each in conversations], **options)
        return found.to(dtype=self._dtype)

    def post_process(self, generated: Tensor, inputs: Mapping[str, Any]) -> list[str]:
        """Answers as text, without the prompt, special tokens and surrounding space."""
        if self._prompt_in_output:
            generated = generated[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(generated, skip_special_tokens=True)]


def _with_pictures(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages with an image in place of each NeRF; every content is a list, which all templates read."""
    shown = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else [_with_picture(p) for p in content]
        shown.append({**message, "content": parts})
    return shown


def _with_picture(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part["type"] != "nerf":
        return part
    return {"type": "image", "image": Image.fromarray(part["nerf"].numpy())}


def load_vlm(
    path: StrPath,
    *,
    dtype: str = "auto",
    device: torch.device | None = None,
    bits: int | None = None,
    size: int = RELEASED_SIZE,
    azimuth: float = AZIMUTH,
) -> tuple[Any, ViewProcessor]:
    """A vision-language model, in evaluation mode, and its processor, for `answer`.

    Args:
        path: directory, or name on the hub, of an image-text-to-text model of transformers.
        dtype: name of the weights' dtype; ``"auto"`` for as they were saved.
        device: where the model goes; None for the accelerator if there is one, else the CPU.
        bits: bits of quantised weights, 8 or 4 (needs bitsandbytes); None: as they are.
        size, azimuth: arguments of `ViewProcessor`.

    Raises:
        ValueError: what `read_vlm_processor` raises, or a size that is no size of a picture.
        OSError: no such model.
    """
    from transformers import AutoModelForImageTextToText

    if not 1 <= size <= 4096:
        raise ValueError(f"the view is {size} pixels wide; expected 1 to 4096")
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    processor = read_vlm_processor(path)
    options: dict[str, Any] = {"dtype": dtype}
    if bits is not None:
        options |= {"quantization_config": quantization_config(bits), "device_map": {"": device}}
    model = _first_line(functools.partial(AutoModelForImageTextToText.from_pretrained, **options), path)
    if bits is None:
        torch.nn.Module.to(model, device)
    return model.eval(), ViewProcessor(processor, model, size=size, azimuth=azimuth)


def check_baseline(path: StrPath, nerfs: Iterable[StrPath]) -> None:
    """Raise what `load_vlm` would for a model, and `ValueError` for embeddings among the NeRFs, before anything is asked."""
    for nerf in nerfs:
        if is_embedding_file(nerf):
            raise ValueError(f"{nerf}: is an embedding, of which there is no view; choose NeRFs (--family)")
    read_vlm_processor(path)


def read_vlm_processor(path: StrPath) -> Any:
    """The processor of a vision-language model, whose weights are not read.

    Raises:
        ValueError: a model of another kind, or one without image processor or chat template.
        OSError: no such model.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as KNOWN

    config = _first_line(AutoConfig.from_pretrained, path)
    processor = _first_line(AutoProcessor.from_pretrained, path) if type(config) in KNOWN else None
    if processor is None or not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ValueError(
            f"{path}: is a {config.model_type} model, which reads no pictures here; expected an image-text-to-text model of "
            "transformers with its processor, such as a LLaVA"
        )
    if not processor.chat_template:
        raise ValueError(f"{path}: has no chat template; expected one that says where picture and question stand")
    return processor


def _first_line(load: Any, path: StrPath) -> Any:
    """What a loader of transformers gives, its errors cut to a sentence that names the path."""
    try:
        return load(path)
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OSError(f"{path}: cannot be loaded as a vision-language model ({reason})") from error

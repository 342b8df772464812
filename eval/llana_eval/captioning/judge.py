"""A judge: a language model that compares each answer with its reference and gives it a score from 0 to 100.

After PointLLM (Xu et al., 2024), which asks a large language model what share of the reference's facts a caption states, and for
a short reason, as ``score#reason``. The prompt here is ours, in that spirit, and asks about answers to any question: its scores
compare answers judged by one judge with one another, not with published ones.

The judge is asked only where one is named. Its raw replies are kept beside the scores in a record file, so that a run that was
cut off, or an endpoint that failed, continues where it was. A reply without a score is named and left out of the mean.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from gmn_encoder.files import StrPath
from gmn_encoder.locks import output_lock
from gmn_encoder.progress import Progress, no_progress
from llana_gmn.checkpoints.provenance import model_fingerprint
from llana_gmn.inference.record_file import RecordFile, remove_records

from ..bootstrap import BootstrapSettings, confidence_intervals
from .results import Record

JUDGE_NAME = "judge"
"""Name of its scores among the metrics."""
BATCH_SIZE = 8
MAX_NEW_TOKENS = 64

PROMPT = """\
You compare an answer about a 3D object with a reference that is known to be right.
Count the facts that the reference states: what the object is, its parts, shape, colours, materials and use. Find out how many \
of them the answer states too. Other words for the same fact count in full, a fact that is nearly right counts half.
Reply in one line: the share of facts found as a whole number from 0 to 100, then #, then a reason of at most 15 words. \
For example: 50#right object, wrong colour

Question: {question}
Reference: {ground_truth}
Answer: {model_output}
Reply:"""
"""What the judge is asked about a record."""

_NUMBER = r"(\d{1,3}(?:\.\d+)?)\s*(?:%|/\s*100)?"
_SCORE = re.compile(rf"(?<![\d.-]){_NUMBER}\W{{0,4}}#")
_BARE_SCORE = re.compile(rf"\W*(?:score\W{{0,4}})?{_NUMBER}(?:\.?\s*(?:\n|$)|\s*[,:;(–-])", re.IGNORECASE)  # noqa: RUF001
_SHOWN = 5


class Judge(Protocol):
    """Something that replies to prompts.

    Attributes:
        settings: what decides its replies, as JSON, without secrets.
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        """``(place, reply)`` of each prompt, as they come; raises `OSError` where the judge cannot be asked."""


def judge_prompt(record: Record) -> str:
    """What the judge is asked about a record ``{"question", "ground_truth", "model_output"}``; the question may be missing."""
    return PROMPT.format(
        question=record.get("question") or "What is this object?",
        ground_truth=record["ground_truth"],
        model_output=record["model_output"],
    )


def parse_score(reply: str) -> float | None:
    """The score in a judge's reply, a number from 0 to 100 before the first ``#`` or where the reply begins; or None."""
    found = _SCORE.search(reply) or _BARE_SCORE.match(reply.replace("*", ""))
    score = float(found[1]) if found else -1.0
    return score if 0 <= score <= 100 else None


def judge_settings(judge: Judge) -> dict[str, Any]:
    """Everything that decides what a judge replies about a record."""
    return {**judge.settings, "prompt": PROMPT}


def judge_file(results: StrPath, judge: str) -> Path:
    """Where a judge's replies to a result file are kept: beside it, a file a judge."""
    path = Path(results)
    name = re.sub(r"[^\w.-]+", "_", Path(judge).name) or "judge"
    return path.with_name(f"{path.stem}_judge_{name}.jsonl")


def judge_records(
    records: Sequence[Record],
    judge: Judge,
    path: StrPath,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> list[float | None]:
    """The judge's scores of records, in their order; None where a reply has none.

    Args:
        records: records as `score_captions` returns them: judged is what was scored.
        judge: who is asked what has no reply yet.
        path: a JSONL file of replies and scores, continued where it is there already.
        overwrite: whether to ask everything anew.
        progress: receives the replies done and all.

    Raises:
        ValueError: `path` was begun with another judge or prompt, or another process is writing it.
        OSError: the judge cannot be asked any more; what it replied until then is kept.
    """
    keys = ("object_id", "question", "ground_truth", "model_output")
    asked = {str(place): {key: record.get(key) for key in keys} for place, record in enumerate(records)}
    with output_lock(path):
        if overwrite:
            remove_records(path)
        file = RecordFile(path, asked, settings=judge_settings(judge))
        missing = file.missing()
        prompts = [judge_prompt(asked[name]) for name in missing]
        done = len(asked) - len(missing)
        started = done
        try:
            for place, reply in judge.replies(prompts) if missing else ():
                if done == started:  # a judge that never replied leaves no file
                    file.start()
                file.append(missing[place], {"score": parse_score(reply), "reply": reply})
                done += 1
                progress("asking the judge", done, len(asked))
        finally:
            if done > started:
                file.finish()
        found = file.records()
    return [found[name]["score"] for name in asked]


def unscored(judged: Sequence[float | None], path: StrPath) -> str | None:
    """One sentence about replies without a score, or None where all have one."""
    places = [str(place) for place, score in enumerate(judged) if score is None]
    if not places:
        return None
    more = ", ..." if len(places) > _SHOWN else ""
    return (
        f"{path}: {len(places)} of {len(judged)} replies hold no score from 0 to 100 (of records "
        f"{', '.join(places[:_SHOWN])}{more}); they are left out of the judge's mean"
    )


def with_judge(
    scores: Mapping[str, Any],
    judged: Sequence[float | None],
    judge: Judge,
    *,
    bootstrap: BootstrapSettings | None = None,
) -> dict[str, Any]:
    """What `score_captions` returned with the metric `JUDGE_NAME` beside the others.

    Its mean and interval are over the records that have a score; the others have none among their `scores`, and where none has,
    the metric is left out. Who judged, and how many records, stands in the settings.
    """
    found = [score for score in judged if score is not None]
    overall, intervals = dict(scores["overall_scores"]), dict(scores["confidence_intervals"])
    if found:
        overall[JUDGE_NAME] = sum(found) / len(found)
        intervals[JUDGE_NAME] = list(confidence_intervals({JUDGE_NAME: found}, bootstrap)[JUDGE_NAME])
    results = [
        result if score is None else {**result, "scores": {**result["scores"], JUDGE_NAME: score}}
        for result, score in zip(scores["results"], judged, strict=True)
    ]
    about = {**scores["settings"], JUDGE_NAME: judge_settings(judge), "judged": len(found)}
    return {
        **scores,
        "overall_scores": overall,
        "confidence_intervals": intervals,
        "results": results,
        "settings": about,
    }


class LocalJudge:
    """A causal language model of transformers; greedy, through its chat template where it has one.

    Args:
        path: the model's directory.
        batch_size: prompts at a time.
        max_new_tokens: most tokens of a reply.
        device: where the model runs; None for the accelerator if there is one, else the CPU.

    Raises:
        FileNotFoundError: no such directory: a name is never looked for on a hub.
    """

    def __init__(
        self,
        path: StrPath,
        *,
        batch_size: int = BATCH_SIZE,
        max_new_tokens: int = MAX_NEW_TOKENS,
        device: torch.device | None = None,
    ) -> None:
        if not Path(path, "config.json").is_file():
            raise FileNotFoundError(
                f"{path}: is no directory of a language model; expected one for the judge, or an endpoint that has it "
                "(--judge-url)"
            )
        self._path, self._batch_size, self._max_new_tokens = Path(path), batch_size, max_new_tokens
        self._device = device or torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        return {
            "judge": str(self._path),
            "judge_sha256": model_fingerprint(self._path),
            "max_new_tokens": self._max_new_tokens,
        }

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        model, tokenizer = self._load()
        texts = [_chat(tokenizer, prompt) for prompt in prompts]
        places = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(places), self._batch_size):
            batch = places[start : start + self._batch_size]
            # A chat template writes the start token itself.
            inputs = tokenizer(
                [texts[place] for place in batch],
                padding=True,
                return_tensors="pt",
                add_special_tokens=not tokenizer.chat_template,
            ).to(self._device)
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                max_new_tokens=self._max_new_tokens,
            )
            found = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            yield from zip(batch, (text.strip() for text in found), strict=True)

    def _load(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self._path, padding_side="left")
            model: Any = AutoModelForCausalLM.from_pretrained(self._path, dtype="auto")
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OSError(f"{self._path}: cannot be loaded as a causal language model ({reason})") from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return model.to(self._device).eval(), tokenizer


def _chat(tokenizer: Any, prompt: str) -> str:
    if not tokenizer.chat_template:
        return prompt
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

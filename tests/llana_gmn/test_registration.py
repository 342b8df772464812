"""In processes of their own, as a user's script does it: nothing of the library may be imported yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIRST = {
    "llana_gmn first": "import llana_gmn, transformers",
    "transformers first": "import transformers, llana_gmn",
    "an Auto class given away before": "from transformers import AutoTokenizer\nimport llana_gmn, transformers",
    "looked for before": "import llana_gmn, importlib.util\nassert importlib.util.find_spec('transformers')\nimport transformers",
    "a module of ours first": "import llana_gmn.model.modeling, transformers",
    "a processor first": "import llana_gmn, transformers\nfrom transformers import ProcessorMixin",
    "the module made anew": "import llana_gmn\nfrom transformers import ProcessorMixin\nimport transformers",
    "transformers first, a model of it too": "from transformers import LlamaModel\nimport llana_gmn, transformers",
}


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("order", FIRST)
def test_auto_classes_know_the_model_after_a_bare_import(order, tiny_folder):
    code = f"""
{FIRST[order]}
config = transformers.AutoConfig.from_pretrained({str(tiny_folder)!r})
print(type(config).__name__)
print(type(transformers.AutoProcessor.from_pretrained({str(tiny_folder)!r})).__name__)
for name in ("AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
    assert type(config) in getattr(transformers, name)._model_mapping, name
print(type(transformers.AutoModelForImageTextToText.from_pretrained({str(tiny_folder)!r})).__name__)
print(type(transformers).__getattr__.__name__)
"""
    names = ["LlanaGmnConfig", "LlanaGmnProcessor", "LlanaGmnForConditionalGeneration", "__getattr__"]
    assert run(code) == names


@pytest.mark.parametrize("task", ["text-generation", "image-text-to-text", "any-to-any"])
def test_pipelines_know_the_model_after_a_bare_import(task, tiny_folder):
    code = f"""
import llana_gmn
from transformers import pipeline
found = pipeline({task!r}, model={str(tiny_folder)!r})
question = [dict(type="text", text="What?")]
if {task!r} != "text-generation":  # which has no processor
    from gmn_encoder import Nerf
    question.insert(0, dict(type="nerf", nerf=Nerf.random("MLP-nano")))
messages = [dict(role="user", content=question)]
(answer,) = found(messages, max_new_tokens=2, return_full_text=False)
print(type(found.model).__name__, type(answer["generated_text"]).__name__)
"""
    assert run(code) == ["LlanaGmnForConditionalGeneration", "str"]


def test_nothing_heavy_is_imported_before_a_model_may_be_meant():
    code = """
import sys, llana_gmn, transformers
from transformers import BatchFeature
print("llana_gmn.model.auto" in sys.modules)
from transformers import AutoConfig
print("llana_gmn.model.auto" in sys.modules)
"""
    assert run(code) == ["False", "True"]

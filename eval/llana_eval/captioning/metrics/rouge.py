"""ROUGE-1, ROUGE-2 and ROUGE-L as a module of `evaluate`; one import a line, as its loader reads them."""

import datasets
import evaluate

import llana_eval.captioning.metrics
import llana_eval.captioning.ngrams

_FEATURES = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class Rouge(evaluate.Metric):
    """ROUGE-1, ROUGE-2 and ROUGE-L of predictions, one reference each. Keys `rouge-1`, `rouge-2`, `rouge-l`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="ROUGE-1, ROUGE-2 and ROUGE-L as the LLaNA benchmark computes it; means in 0..100.",
            citation="Lin, 2004",
            inputs_description="Two lists of texts of equal length.",
            features=_FEATURES,
        )

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, float]:
        return llana_eval.captioning.metrics.means(llana_eval.captioning.ngrams.rouge_scores(predictions, references))

"""BLEU-1 to BLEU-4 as a module of `evaluate`; one import a line, as its loader reads them."""

import datasets
import evaluate

import llana_eval.captioning.metrics
import llana_eval.captioning.ngrams

_FEATURES = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class Bleu(evaluate.Metric):
    """BLEU-1 to BLEU-4 of predictions, one reference each. Keys `bleu-1` to `bleu-4`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="BLEU-1 to BLEU-4 as the LLaNA benchmark computes it; means in 0..100.",
            citation="Papineni et al., 2002",
            inputs_description="Two lists of texts of equal length.",
            features=_FEATURES,
        )

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, float]:
        return llana_eval.captioning.metrics.means(llana_eval.captioning.ngrams.bleu_scores(predictions, references))

"""METEOR as a module of `evaluate`; one import a line, as its loader reads them."""

import datasets
import evaluate

import llana_eval.captioning.metrics
import llana_eval.captioning.ngrams

_FEATURES = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class Meteor(evaluate.Metric):
    """METEOR of predictions, one reference each. Key `meteor`; needs WordNet."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="METEOR as the LLaNA benchmark computes it; means in 0..100.",
            citation="Banerjee and Lavie, 2005",
            inputs_description="Two lists of texts of equal length.",
            features=_FEATURES,
        )

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, float]:
        return llana_eval.captioning.metrics.means(llana_eval.captioning.ngrams.meteor_scores(predictions, references))

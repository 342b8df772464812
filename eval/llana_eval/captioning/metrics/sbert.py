"""S-BERT similarity as a module of `evaluate`; one import a line, as its loader reads them."""

import datasets
import evaluate

import llana_eval.captioning.metrics
import llana_eval.captioning.similarity

_FEATURES = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class Sbert(evaluate.Metric):
    """S-BERT similarity of predictions, one reference each. Key `sbert_similarity`.

    `compute` takes `model`, a directory or a name on the hub.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="S-BERT similarity as the LLaNA benchmark computes it; means in 0..100.",
            citation="Reimers and Gurevych, 2019",
            inputs_description="Two lists of texts of equal length.",
            features=_FEATURES,
        )

    def _compute(
        self,
        *,
        predictions: list[str],
        references: list[str],
        model: str = llana_eval.captioning.similarity.SBERT_MODEL,
    ) -> dict[str, float]:
        embedder = llana_eval.captioning.similarity.sbert_embedder(model)
        return llana_eval.captioning.metrics.means({"sbert_similarity": embedder.similarity(predictions, references)})

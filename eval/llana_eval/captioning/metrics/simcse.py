"""SimCSE similarity as a module of `evaluate`; one import a line, as its loader reads them."""

import datasets
import evaluate

import llana_eval.captioning.metrics
import llana_eval.captioning.similarity

_FEATURES = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})


class Simcse(evaluate.Metric):
    """SimCSE similarity of predictions, one reference each. Key `simcse_similarity`.

    `compute` takes `model`, a directory or a name on the hub.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="SimCSE similarity as the LLaNA benchmark computes it; means in 0..100.",
            citation="Gao et al., 2021",
            inputs_description="Two lists of texts of equal length.",
            features=_FEATURES,
        )

    def _compute(
        self,
        *,
        predictions: list[str],
        references: list[str],
        model: str = llana_eval.captioning.similarity.SIMCSE_MODEL,
    ) -> dict[str, float]:
        embedder = llana_eval.captioning.similarity.simcse_embedder(model)
        return llana_eval.captioning.metrics.means({"simcse_similarity": embedder.similarity(predictions, references)})

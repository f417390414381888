"""Where the embeddings of parts lie: t-SNE in two dimensions, the background as one more part."""

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits


def tsne(
    part_embeddings: Float[np.ndarray, "n k e"],
    background_embeddings: Float[np.ndarray, "n e"],
    seed: int,
    perplexity: float = 30.0,
) -> Float[np.ndarray, "n c 2"]:
    """Runs t-SNE (van der Maaten, Hinton 2008) on all embeddings of all samples together.

    Args:
      part_embeddings: (N, K, E).
      background_embeddings: (N, E), the background's style.
      seed: of the optimisation.
      perplexity: about the number of neighbours that count; lowered for few samples.

    Returns:
      (N, K+1, 2), background first.
    """
    from sklearn.manifold import TSNE  # Slow to import, and seldom needed.

    together = np.concatenate(
        [np.asarray(background_embeddings)[:, None], np.asarray(part_embeddings)], axis=1
    )  # [N, K+1, E]
    count, classes, dimension = together.shape
    rows = together.reshape(-1, dimension).astype(np.float64)
    fitting = min(perplexity, (len(rows) - 1) / 3)
    model = TSNE(2, perplexity=fitting, init="pca", learning_rate="auto", random_state=seed)
    # One thread: so few rows are done at once, and threads that wait for each other on a busy
    # machine take a hundred times as long.
    with threadpool_limits(1):
        return model.fit_transform(rows).reshape(count, classes, 2)

"""Embeddings as points on a plane, to see which pictures a method finds alike.

t-SNE keeps neighbours, not distances: the gaps between its islands and their sizes mean nothing.
"""

from __future__ import annotations

import numpy as np

_FIRST = 50  # dimensions that t-SNE sees
_EXACT = 500  # beyond this smaller side, the leading axes are found by a randomised decomposition


def pca(embeddings: np.ndarray, dims: int = 2, seed: int = 0) -> np.ndarray:
    """(N, dims) float64: the directions of largest spread, widest first; zeros where there are fewer of them.

    embeddings: (N, D), any N.  The sign is fixed, so that a figure does not flip from one machine to the next.
    Raises ValueError for another shape or a value that is not finite.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"the embeddings have shape {rows.shape} or hold a value that is not finite; (N, D) is needed")
    out = np.zeros((len(rows), dims))
    if len(rows) < 2:
        return out
    centred = rows - rows.mean(axis=0)
    if min(rows.shape) > _EXACT:
        from sklearn.utils.extmath import randomized_svd

        left, spread, _ = randomized_svd(centred, n_components=min(dims, *rows.shape), random_state=seed)
    else:
        left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    rounding = spread.max(initial=0) * max(rows.shape) * np.finfo(np.float64).eps
    width = min(dims, int((spread > max(rounding, 1e-12 * np.abs(rows).max(initial=0))).sum()))
    points = left[:, :width] * spread[:width]
    farthest = np.abs(points).argmax(axis=0)
    out[:, :width] = points * np.where(points[farthest, range(width)] < 0, -1, 1)
    return out


def tsne(embeddings: np.ndarray, seed: int = 0, perplexity: float | None = None) -> np.ndarray:
    """(N, 2) float32: t-SNE after PCA to 50 dimensions.  Same input and seed, same picture.

    embeddings: (N, D), any N.  Fewer than four points, or all the same, are shown by PCA: there are no neighbours to keep.
    perplexity: about how many neighbours count; None = 30.  Never more than (N - 1) / 3, never less than 1.
    About 1 s for 200 pictures and 12 s for 2000 on one core.  Raises ValueError as `pca`.
    Source: van der Maaten and Hinton 2008; started from PCA after Kobak and Berens 2019, doi:10.1038/s41467-019-13056-x.
    """
    points = pca(embeddings, _FIRST, seed)
    n = len(points)
    widest = points[:, 0].std() if n else 0.0
    if n < 4 or widest == 0:
        return points[:, :2].astype(np.float32)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    scaled = (points / widest).astype(np.float32)  # hundreds or thousandths come out alike
    start = scaled[:, :2] * np.float32(1e-4)
    # A hair of noise: points that lie on one line would otherwise never leave it.
    start += np.random.default_rng(seed).normal(0, 1e-7, start.shape).astype(np.float32)
    near = max(1.0, min(30.0 if perplexity is None else perplexity, (n - 1) / 3))
    with threadpool_limits(1):  # threads add up in any order, and t-SNE blows the last digit up into another picture
        return TSNE(2, perplexity=near, init=start, random_state=seed).fit_transform(scaled)

"""Measures of the geometry of embeddings, which tell a healthy encoder from a collapsed one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.floating]

COLLAPSE_UNIFORMITY = -1e-3
"""Uniformity above this is a collapse: the mean squared distance between unit vectors is then below 0.0005, about
1.3 degrees."""


def to_unit_vectors(vectors: Vectors) -> npt.NDArray[np.float64]:
    """(N, D) → rows of length 1, in float64; a row of zeros stays zero."""
    wide = vectors.astype(np.float64)
    directions: npt.NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return directions


def alignment(first: Vectors, second: Vectors) -> float:
    """Mean squared distance between the unit vectors of positive pairs, in 0…4; lower is closer together.

    Source: arXiv 2005.10242, section 4.1.1, with α = 2.

    Args:
        first, second: (N, D), row i of both is a pair; N at least 1.
    """
    return float(((to_unit_vectors(first) - to_unit_vectors(second)) ** 2).sum(axis=1).mean())


def uniformity(vectors: Vectors, t: float = 2.0) -> float:
    """Logarithm of the mean of exp(−t d²) over all pairs of unit vectors; 0 where all are the same, lower is better.

    Source: arXiv 2005.10242, section 4.1.2. On a sphere of many dimensions it cannot fall below about −4 (t = 2).

    Args:
        vectors: (N, D); N at least 2.
        t: the larger, the less distant pairs count.
    """
    z = to_unit_vectors(vectors)
    cosines = np.clip(z @ z.T, -1, 1)[np.triu_indices(len(z), k=1)]
    return float(np.log(np.exp(-t * (2 - 2 * cosines)).mean()))


def embedding_rank(vectors: Vectors) -> float:
    """Effective rank: exp of the entropy of the singular values' shares, in 1…min(N, D); 0 where all are zero.

    Source: RankMe, arXiv 2210.02885, eq. 1. As there, the mean is not subtracted, so vectors that differ little
    from each other have a rank near 1, whatever the directions of their differences.

    Args:
        vectors: (N, D).
    """
    values = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    total = values.sum()
    if total == 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def is_collapsed(figures: Mapping[str, float]) -> bool:
    """Whether a probe's figures show an encoder that gives all slices (nearly) the same vector.

    Args:
        figures: as `probe.Probe` returns them; without "uniformity" the answer is False.
    """
    return figures.get("uniformity", -np.inf) > COLLAPSE_UNIFORMITY

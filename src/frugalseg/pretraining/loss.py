"""The contrastive loss of all methods, the pairs that make it PolyCL's, and BYOL's loss, which has no negatives.

    L = mean over anchors a with P_a ≠ ∅ of  −1/|P_a| Σ_{p ∈ P_a} ( z_a·z_p/τ − log Σ_{b ∈ D_a} exp(z_a·z_b/τ) )

z are unit vectors, P_a the positives of anchor a, D_a ⊇ P_a the entries of its denominator; neither contains a. With
`one_by_one` no positive is compared with the other positives: the sum of each pair is over {p} ∪ (D_a ∖ P_a).
SupCon's L_out (arXiv 2004.11362, eq. 2) has D_a = all others. With P_a = {s+} and D_a = {s+, s−} it is PolyCL's
triplet loss (arXiv 2505.19208, eq. 4) in a form that cannot overflow: softplus((z·z− − z·z+)/τ). With anchors and
keys from two networks it is MoCo's (arXiv 1911.05722, eq. 1). Over the pixels of each slice of
a batch it is SuperCL's L_intra (arXiv 2504.14737). With `one_by_one` it is GCL's G^D (arXiv 2006.10511, its code).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    embeddings: Tensor,
    positives: Tensor,
    compared: Tensor,
    tau: float,
    keys: Tensor | None = None,
    *,
    one_by_one: bool = False,
) -> Tensor:
    """The loss above.

    Args:
        embeddings: (…, N, D) anchors, any scale and floating type; computed in float32. Leading axes are groups that
            are never compared with each other.
        positives: (…, N, M) boolean, row a marks P_a.
        compared: (…, N, M) boolean, row a marks D_a.
        tau: temperature, above 0.
        keys: (…, M, D) vectors to compare the anchors with; by default the anchors themselves.
        one_by_one: no positive is compared with the other positives of its anchor.

    Returns:
        A float32 scalar, the mean over the anchors of all groups; 0 with zero gradients where none has a positive.
    """
    z = F.normalize(embeddings.float(), dim=-1)
    k = z if keys is None else F.normalize(keys.float(), dim=-1)
    # Autocast would compute the product in 16 bits, where cos/τ is wrong in its third digit.
    with torch.autocast(z.device.type, enabled=False):
        similarity = z @ k.mT / tau
    if one_by_one:  # log e^s / (e^s + Σ e^n) = −softplus(log Σ e^n − s)
        log_share = -F.softplus(_log_sum(similarity, compared & ~positives) - similarity)
    else:
        log_share = similarity - _log_sum(similarity, compared)
    log_share = log_share.masked_fill(~positives, 0.0)
    count = positives.sum(dim=-1)
    # No indexing by a mask: the GPU would have to wait for the number of anchors.
    per_anchor = -log_share.sum(dim=-1) / count.clamp(min=1)
    return per_anchor.sum() / (count > 0).sum().clamp(min=1)


def _log_sum(similarity: Tensor, among: Tensor) -> Tensor:
    """(…, N, 1): log Σ exp over the marked entries of each row; −∞ where there is none."""
    return similarity.masked_fill(~among, -torch.inf).logsumexp(dim=-1, keepdim=True)


def triplet_pairs(triplets: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """P and D of (anchor, positive, negative) triplets, for embeddings stacked as (anchors, positives, negatives).

    Returns:
        Two (3n, 3n) boolean matrices; only the first n rows have entries.
    """
    anchor = torch.arange(triplets, device=device)
    positives = torch.zeros(3 * triplets, 3 * triplets, dtype=torch.bool, device=device)
    positives[anchor, anchor + triplets] = True
    compared = positives.clone()
    compared[anchor, anchor + 2 * triplets] = True
    return positives, compared


def byol_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean of 2 − 2 cos(p, z) over the rows (arXiv 2006.07733, eq. 2); no gradient into the targets.

    Args:
        predictions: (N, D) of the trained network's predictor.
        targets: (N, D) of the target network, in row i of the other view of the same slice.
    """
    return (2 - 2 * F.cosine_similarity(predictions.float(), targets.detach().float(), dim=1)).mean()

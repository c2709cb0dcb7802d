"""Projection heads: from an encoder's embedding to the space where contrast is measured."""

from __future__ import annotations

from torch import nn


def linear_head(embedding_dim: int, dim: int = 256) -> nn.Module:
    """PolyCL's head g: one linear layer (arXiv 2505.19208, section 3.2); no activation, cosines keep both signs."""
    return nn.Linear(embedding_dim, dim)

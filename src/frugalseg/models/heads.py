"""Projection and prediction heads on an encoder's embedding."""

from __future__ import annotations

from torch import nn


def linear_head(embedding_dim: int, dim: int = 256) -> nn.Module:
    """PolyCL's head g: one linear layer (arXiv 2505.19208, section 3.2); no activation, so cosines have both signs."""
    return nn.Linear(embedding_dim, dim)


def mlp_head(embedding_dim: int, hidden: int, dim: int) -> nn.Module:
    """SimCLR's head: linear, ReLU, linear (arXiv 2002.05709, section 2.1); SuperCL's has 512, 512, 512."""
    return nn.Sequential(nn.Linear(embedding_dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))


def byol_head(inputs: int, hidden: int, dim: int) -> nn.Module:
    """BYOL's projector, and its predictor: linear, batch norm, ReLU, linear (arXiv 2006.07733, section 3.3)."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim))

"""Contrastive pre-training: which slices form pairs, the loss over them, and the `pretrain` command."""

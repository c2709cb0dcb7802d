"""Pre-training by contrast: which slices form pairs, the loss over them, and the `pretrain` command."""

"""SAM-Mix: a classifier trained on image-level labels prompts a SAM fine-tuned on a few masks (arXiv 2412.08575)."""

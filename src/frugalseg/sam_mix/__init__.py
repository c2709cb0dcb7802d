"""SAM-Mix: a classifier taught by image-level labels prompts a SAM that learned from a few masks (arXiv 2412.08575)."""

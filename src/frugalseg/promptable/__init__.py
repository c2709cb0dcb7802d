"""Promptable models behind one protocol: loading, image embeddings, prompts, masks."""

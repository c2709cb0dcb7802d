"""A trained model outside its run folder: exported for other programs, published and fetched with a model card."""

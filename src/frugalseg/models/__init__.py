"""Networks: encoders with an embedding, decoders, heads, a registry, saving and loading."""

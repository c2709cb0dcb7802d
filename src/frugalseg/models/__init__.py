"""Networks: encoders with an embedding, decoders, heads, one registry, and how they are saved."""

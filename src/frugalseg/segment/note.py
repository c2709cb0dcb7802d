"""What `predict` leaves beside its masks for whoever judges them."""

NOTE = "predictions.json"
"""File with the model, its settings, where the scans lie, and what the model knew of each."""

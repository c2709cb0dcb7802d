"""The requests of the HTTP API, one file per subject."""

"""The jobs of a study: trials, workers, scheduler."""

"""A study's jobs: trials, workers, scheduler."""

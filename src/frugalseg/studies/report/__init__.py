"""A study's report: tables, comparison, plots."""

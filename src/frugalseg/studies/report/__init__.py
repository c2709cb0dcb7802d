"""The report of a study: tables, comparisons, charts, conclusions."""

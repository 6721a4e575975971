"""The report: a run as one page that needs no other file."""

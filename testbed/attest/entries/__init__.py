"""The measurer's own entries in the log, from docs/formats.md section 2 and from nothing else."""

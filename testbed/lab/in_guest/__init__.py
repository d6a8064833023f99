"""Programs that run in the guest, by its own Python and without this package."""

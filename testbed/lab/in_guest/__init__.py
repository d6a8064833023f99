"""Programs that run in the guest, with the guest's Python and without this package."""

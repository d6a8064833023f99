"""The data dictionary: what each column of each table of a campaign means."""

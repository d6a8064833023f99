"""From raw rows to all tables of a campaign, a module per table."""

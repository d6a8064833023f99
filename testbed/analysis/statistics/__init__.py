"""Statistics of a campaign: effects of blocks with their intervals, and what a design can find. Pure functions."""

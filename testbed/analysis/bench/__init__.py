"""What the raw values of ``testbed bench`` say: prices, ratios and their targets, as tables."""

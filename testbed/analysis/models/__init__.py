"""What is computed beyond what was measured: run length, the price of a byte, time; prices beside single events."""

"""What a verification saves, so that the next one of the same machine can continue from there."""

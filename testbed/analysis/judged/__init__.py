"""Each run of a campaign, judged: what was found in its evidence against what had to be found."""

"""Each run of a campaign, judged: the findings in its evidence against the expected ones."""

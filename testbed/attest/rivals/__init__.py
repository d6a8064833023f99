"""Other people's verifiers, asked about the same evidence: partners for comparison, not judges."""

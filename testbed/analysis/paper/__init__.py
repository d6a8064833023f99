"""What a paper shows of reference data: the slides' logs beside live ones, figures, tables, claims. No machine."""

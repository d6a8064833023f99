"""What attacks on evidence are made with: their model, lines of a log, a stand-in TPM, the trial of the verifier."""

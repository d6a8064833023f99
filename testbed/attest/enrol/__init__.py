"""A machine that is not ours: the script that collects its evidence, and the proof that its key is a TPM's."""

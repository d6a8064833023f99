"""Forms of other projects: verdicts as EAR, Keylime's policies and quotes, files of tpm2-tools, CEL."""

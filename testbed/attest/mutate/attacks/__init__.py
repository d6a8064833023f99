"""The attacks on evidence: one module per kind, each with a table ``ATTACKS``."""

"""The attacks on evidence: a module a kind, each with a table ``ATTACKS``."""

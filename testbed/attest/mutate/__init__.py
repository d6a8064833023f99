"""Attacks on evidence: named, each with its expected findings, each made from an honest bundle."""

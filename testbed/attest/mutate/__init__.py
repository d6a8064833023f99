"""Attacks on evidence: named, each with the findings that must follow, each made from an honest bundle."""

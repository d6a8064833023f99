"""The demo: a machine, two containers, evidence, and four acts that the verifier must see; shown while it happens."""

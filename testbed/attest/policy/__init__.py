"""Reference policies: the file and its keys, what they allow, and how they are made (docs/policy.md)."""

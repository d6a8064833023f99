"""What ``recompute.py`` computes, and how it reads a page. No part of it imports the package ``testbed``."""

"""The log of IMA: binary and text, its runs, its damaged lines, and the rules by which its digests were made."""

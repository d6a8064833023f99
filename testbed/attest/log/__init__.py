"""The log of IMA: binary and text, as a stream of runs, damaged lines, and the rules by which its digests were made."""

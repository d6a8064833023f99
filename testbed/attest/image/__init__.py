"""A container image as the verifier sees it: its tree, the digest of the tree, the libraries a program gets."""

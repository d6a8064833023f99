"""Machines that count what single events cost: they give raw values, and the desk makes tables of them."""

"""Machines of libvirt: what one is, how it boots, is saved and restored, and what outlives a killed `testbed`."""

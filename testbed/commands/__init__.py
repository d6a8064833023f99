"""The commands of ``testbed``: a file each, named as the command. Files whose names begin with ``_`` are shared."""

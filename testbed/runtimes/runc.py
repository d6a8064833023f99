"""podman with runc."""

from testbed.runtimes import podman_with

RUNTIME = podman_with("runc")

"""podman with crun."""

from testbed.runtimes import podman_with

RUNTIME = podman_with("crun")

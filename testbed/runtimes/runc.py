"""runc called directly on a bundle."""

from testbed.runtimes import _oci

RUNTIME = _oci.runtime("runc")

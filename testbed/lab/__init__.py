"""What boots machines: builders, software TPM, libvirt, ssh. It writes the run directory and never judges one."""

import os

# libvirt's own log goes to standard error, where it would tear the progress; what matters reaches us as exceptions. It
# reads this when it is imported, which only modules of this package do.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

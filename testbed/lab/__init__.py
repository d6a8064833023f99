"""What boots machines: builders, software TPM, libvirt, ssh. It writes the run directory and never judges one."""

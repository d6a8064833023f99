"""What is built once and kept by content: kernels, disks, container images, the measurer for a kernel."""

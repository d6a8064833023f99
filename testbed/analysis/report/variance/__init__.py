"""What an overhead varies by: a second run of an arm, what runs elsewhere, builds of the disks."""

"""Who runs studies: workers with leases, and one process for each study."""

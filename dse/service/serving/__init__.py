"""Running the service: the server's process, and those that it starts and ends with itself."""

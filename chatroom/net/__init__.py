"""What the operating system is asked for: listening sockets, descriptors, a channel for both."""

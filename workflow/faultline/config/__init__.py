"""What is asked: the config, how it is read, and what it may hold."""

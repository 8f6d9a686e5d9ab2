"""Training, plain and against attacks."""

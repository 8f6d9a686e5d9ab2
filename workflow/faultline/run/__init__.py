"""What is to be done: the plan, its jobs, and what they load."""

"""Which layers stand fewer bits or fewer weights, one at a time and all together."""

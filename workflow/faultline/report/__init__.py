"""The kit of the page, which knows no study."""

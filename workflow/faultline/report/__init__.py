"""The kit of the report's page, which knows no study: page, canvas, render."""

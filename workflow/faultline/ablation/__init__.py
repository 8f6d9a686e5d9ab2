"""The engine: variants of a network, evaluated as a plain loop would, and their facts."""

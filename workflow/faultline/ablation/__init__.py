"""The engine: what is removed of a network, and which images stay correct then."""

"""Networks: their layers, architectures, weights and facts, and how they are evaluated."""

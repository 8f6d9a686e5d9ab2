"""Which layers, filters and weights are fragile, robust, antifragile (Pravin et al. 2021, 2024)?"""

ALL_LAYERS = "all layers"
"""What stands for a layer's name where all are filtered at once."""

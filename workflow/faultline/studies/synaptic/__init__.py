"""Which layers, filters and weights are fragile, robust, antifragile (Pravin et al. 2021, 2024)?"""

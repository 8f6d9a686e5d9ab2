"""Which layers do perturbed images move most (Khalooei et al. 2022)?"""

"""Do attacks aim at fragile filters, and what if these are amplified (Pravin et al. 2021)?"""

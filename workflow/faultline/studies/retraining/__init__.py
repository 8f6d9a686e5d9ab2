"""Does it help to freeze what is fragile and to train the rest on (Pravin et al. 2024)?"""

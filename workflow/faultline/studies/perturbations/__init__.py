"""How far does random damage inside of a network go (Cheney et al. 2017)?"""

"""Where in the network does it break, and do the methods agree on where?"""

"""What do attacks change in an image, and which images does a fragile filter keep right?"""

SIDE = 64
"""Of a picture, at most; larger images are averaged down to it."""

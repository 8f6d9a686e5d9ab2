"""What do attacks change in an image, and which images does a fragile filter keep right?"""

TABLES = {
    "examples": "a few test images and their adversarial versions, with what is predicted",
    "lost_images": "images that are right, and wrong without one of the most fragile filters",
}

SIDE = 64
"""Of a picture, at most; larger images are averaged down to it."""

"""Networks: how they are built, what their layers are, and what they say of images."""

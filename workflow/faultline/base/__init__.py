"""What all of the library may use."""

"""What is left of a network's accuracy under noise, blur, weather and other cameras."""

"""What happens to inputs outside of a laboratory: noise, blur, weather, other cameras."""

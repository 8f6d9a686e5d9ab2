"""What do ablations of the user's own change?"""

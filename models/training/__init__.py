"""How models are made: nothing of this runs at the edge."""

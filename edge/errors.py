"""Everything that can go wrong at the edge, on one screen."""

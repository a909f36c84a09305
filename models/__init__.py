"""Small models beside the rules: their artifacts and the light runtime that judges with them."""

"""How models are judged: tables, plots and cards. Nothing of this runs at the edge."""

"""The alarm that sounds at the bedside when nobody else may be listening."""

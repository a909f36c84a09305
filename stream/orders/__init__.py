"""`vitalloom orders`: what is watched of patients, at each level, by whom it was ordered and why."""

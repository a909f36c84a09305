"""Training of the models; not used by the edge."""

"""Evaluation of the models: tables, plots and model cards; not used by the edge."""

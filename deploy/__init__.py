"""A whole site in one description: what runs, with which arguments, and whether it is well."""

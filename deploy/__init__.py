"""Deployment of a whole site: its folder, its processes, and their health checks."""

"""What an edge says about itself every thirty seconds."""

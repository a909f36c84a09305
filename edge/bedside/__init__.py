"""Beside the bed, also when the agent is dead: reads the status file, drives lamps and buzzer, prints the state."""

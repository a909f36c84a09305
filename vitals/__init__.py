"""The kernel of meaning: what a patient's numbers say. No I/O, no clock, no logging."""

"""The kernel: judges vital signs and raises alarms. No I/O, no clock, no logging."""

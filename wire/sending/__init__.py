"""The parts of `wire.sender`: rows, sessions, queues, windows and timers of frames that wait for an acknowledgement."""

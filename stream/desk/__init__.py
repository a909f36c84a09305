"""The alarm desk: calls people until an alarm is answered, takes their answers, and passes them to the engine."""

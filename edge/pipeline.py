"""One opened frame becomes one judged reading for the cloud, and the alarms that it raises."""

"""What to send next and when to send it again."""

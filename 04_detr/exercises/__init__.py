"""What right answers to this lesson's exercises are."""

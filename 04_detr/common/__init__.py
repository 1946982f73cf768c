"""What is not the lesson itself: the same files in every lesson that uses them."""

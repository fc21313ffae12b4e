"""Pictures: they store numbers and draw them with matplotlib when asked."""

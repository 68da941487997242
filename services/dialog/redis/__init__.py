"""Dialog's use of Redis: previews and wake-ups. All of it may get lost."""

"""What breaks a server, and what it does then."""

"""What is claimed, measured side by side with peers in one run. See __main__.py."""

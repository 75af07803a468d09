"""A training repository of the user's becomes a lab."""

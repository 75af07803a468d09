"""Documents, tables and figures, made of records."""

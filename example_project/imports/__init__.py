"""Upload a CSV of airports, import it in the background, read the report."""

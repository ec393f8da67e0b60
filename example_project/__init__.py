"""An example: a Django site that imports CSV files in the background and mails a report."""

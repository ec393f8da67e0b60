"""Beat: turns schedules into messages, each slot once."""

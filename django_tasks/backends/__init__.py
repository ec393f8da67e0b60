"""Result backends remember what became of a task, by its id."""

"""Results of outside tools, read into rows of our table: one module per tool, pure. Not here: files (`resources`)."""

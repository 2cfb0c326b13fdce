"""gapsel: choose, out of millions of documents, the few that move a model's data distribution toward a task."""

"""Floor 4: from features to one class per image; read classifier, loss."""

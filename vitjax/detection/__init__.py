"""Floor 4: from features to boxes; read encoder, decoder, heads, detr, matcher, loss, postprocess."""

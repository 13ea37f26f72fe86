"""Folders in Hugging Face's layout: detectors as the transformers library reads and writes them."""

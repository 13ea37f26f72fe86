"""vitjax: the vision-transformer family for detection and classification in JAX."""

__version__ = "0.1.0"

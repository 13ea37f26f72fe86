"""What vitjax takes: `python -m benchmarks` times it beside PyTorch; the other files are programs of their own."""

"""A model behind HTTP: predictions in batches, a demo page, metrics. Needs `pip install -r requirements-serve.txt`."""

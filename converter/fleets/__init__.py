"""Many models on a Dask cluster: the list of tasks, what is proven already, the workers' part, the pages."""

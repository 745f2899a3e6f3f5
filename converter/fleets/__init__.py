"""Many models on a Dask cluster: the list of tasks, what is proven already, the workers' part, and the pages over all."""

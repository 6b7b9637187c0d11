"""Claims of processes other than data plus Gaussian noise."""

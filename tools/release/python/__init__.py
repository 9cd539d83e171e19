"""The program hf-cache-sync, brought by pip. There is nothing to import."""

"""Bases and their tokenizers: found (`resolve`), loaded (`load`), made to run without padding (`packing`)."""

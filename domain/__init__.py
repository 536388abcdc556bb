"""The vocabulary: values and rules that every room shares. No effects, no heavy imports."""

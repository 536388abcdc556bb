"""The data contract: what a production sample must look like, judged by Great Expectations."""

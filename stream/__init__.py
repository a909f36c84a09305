"""The data centre: ingest, processor, engines and stores."""

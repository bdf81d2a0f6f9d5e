"""One file a verb. None of them imports grpc before its verb is run."""

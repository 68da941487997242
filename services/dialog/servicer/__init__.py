"""The gRPC services of dialog: request to use case to response."""

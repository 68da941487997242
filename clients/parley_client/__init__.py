"""Typed clients of Parley's services: one class a service, one method an RPC.

    async with connect("127.0.0.1:50051", audience="context", tokens=tokens) as connection:
        context = ContextClient(connection)
        known = await context.get_context(context_pb2.GetContextRequest(...), timeout=1.0)

Every failure is a `parley_client.errors.CallError`. The protos describe the methods, their requests and responses.
"""

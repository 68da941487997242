"""The client for the context service."""

from parley.context.v1 import context_pb2

from parley_client.methods import Client, Coalesced, Conn, Unary


class ContextClient(Client[Conn]):
    """What is remembered of people and conversations."""

    service = "parley.context.v1.ContextService"

    get_context = Coalesced(
        context_pb2.GetContextRequest,
        context_pb2.GetContextResponse,
        context_pb2.BatchGetContextRequest,
        context_pb2.BatchGetContextResponse,
    )
    batch_get_context = Unary(context_pb2.BatchGetContextRequest, context_pb2.BatchGetContextResponse)
    save_context = Coalesced(
        context_pb2.SaveContextRequest,
        context_pb2.SaveContextResponse,
        context_pb2.BatchSaveContextRequest,
        context_pb2.BatchSaveContextResponse,
    )
    batch_save_context = Unary(context_pb2.BatchSaveContextRequest, context_pb2.BatchSaveContextResponse)
    invalidate_context = Unary(context_pb2.InvalidateContextRequest, context_pb2.InvalidateContextResponse)
    get_stats = Unary(context_pb2.GetStatsRequest, context_pb2.GetStatsResponse)

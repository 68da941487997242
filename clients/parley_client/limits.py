"""The client for the limits service."""

from parley.limits.v1 import limits_pb2

from parley_client.methods import Client, Coalesced, Conn, Unary


class LimitsClient(Client[Conn]):
    """Quotas, rates, and the rules for them."""

    service = "parley.limits.v1.LimitsService"

    check = Unary(limits_pb2.CheckRequest, limits_pb2.CheckResponse)
    reserve = Coalesced(
        limits_pb2.ReserveRequest,
        limits_pb2.ReserveResponse,
        limits_pb2.BatchReserveRequest,
        limits_pb2.BatchReserveResponse,
    )
    batch_reserve = Unary(limits_pb2.BatchReserveRequest, limits_pb2.BatchReserveResponse)
    commit = Coalesced(
        limits_pb2.CommitRequest,
        limits_pb2.CommitResponse,
        limits_pb2.BatchCommitRequest,
        limits_pb2.BatchCommitResponse,
    )
    batch_commit = Unary(limits_pb2.BatchCommitRequest, limits_pb2.BatchCommitResponse)
    release = Unary(limits_pb2.ReleaseRequest, limits_pb2.ReleaseResponse)
    get_usage = Unary(limits_pb2.GetUsageRequest, limits_pb2.GetUsageResponse)
    reset_usage = Unary(limits_pb2.ResetUsageRequest, limits_pb2.ResetUsageResponse)
    create_rule = Unary(limits_pb2.CreateRuleRequest, limits_pb2.CreateRuleResponse)
    update_rule = Unary(limits_pb2.UpdateRuleRequest, limits_pb2.UpdateRuleResponse)
    delete_rule = Unary(limits_pb2.DeleteRuleRequest, limits_pb2.DeleteRuleResponse)
    list_rules = Unary(limits_pb2.ListRulesRequest, limits_pb2.ListRulesResponse)
    set_override = Unary(limits_pb2.SetOverrideRequest, limits_pb2.SetOverrideResponse)
    delete_override = Unary(limits_pb2.DeleteOverrideRequest, limits_pb2.DeleteOverrideResponse)

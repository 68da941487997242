"""The clients for the dialog service."""

from parley.dialog.v1 import bot_pb2, dialog_pb2, order_pb2, tenant_pb2

from parley_client.methods import Client, Coalesced, Conn, Stream, Unary


class DialogClient(Client[Conn]):
    """Incoming messages, turns, and what became of them."""

    service = "parley.dialog.v1.DialogService"

    submit_message = Coalesced(
        dialog_pb2.SubmitMessageRequest,
        dialog_pb2.SubmitMessageResponse,
        dialog_pb2.BatchSubmitMessageRequest,
        dialog_pb2.BatchSubmitMessageResponse,
        gather=0.008,  # webhooks arrive one by one
    )
    batch_submit_message = Unary(dialog_pb2.BatchSubmitMessageRequest, dialog_pb2.BatchSubmitMessageResponse)
    chat = Stream(dialog_pb2.ChatRequest, dialog_pb2.ChatResponse, timeout=120.0)
    get_message = Unary(dialog_pb2.GetMessageRequest, dialog_pb2.GetMessageResponse)
    list_messages = Unary(dialog_pb2.ListMessagesRequest, dialog_pb2.ListMessagesResponse)
    retry_message = Unary(dialog_pb2.RetryMessageRequest, dialog_pb2.RetryMessageResponse)
    list_conversations = Unary(dialog_pb2.ListConversationsRequest, dialog_pb2.ListConversationsResponse)
    get_queue_stats = Unary(dialog_pb2.GetQueueStatsRequest, dialog_pb2.GetQueueStatsResponse)
    record_outcome = Coalesced(
        dialog_pb2.RecordOutcomeRequest,
        dialog_pb2.RecordOutcomeResponse,
        dialog_pb2.BatchRecordOutcomeRequest,
        dialog_pb2.BatchRecordOutcomeResponse,
    )
    batch_record_outcome = Unary(dialog_pb2.BatchRecordOutcomeRequest, dialog_pb2.BatchRecordOutcomeResponse)


class BotClient(Client[Conn]):
    """A tenant's bots."""

    service = "parley.dialog.v1.BotService"

    create_bot = Unary(bot_pb2.CreateBotRequest, bot_pb2.CreateBotResponse)
    get_bot = Unary(bot_pb2.GetBotRequest, bot_pb2.GetBotResponse)
    update_bot = Unary(bot_pb2.UpdateBotRequest, bot_pb2.UpdateBotResponse)
    delete_bot = Unary(bot_pb2.DeleteBotRequest, bot_pb2.DeleteBotResponse)
    list_bots = Unary(bot_pb2.ListBotsRequest, bot_pb2.ListBotsResponse)
    enable_bot = Unary(bot_pb2.EnableBotRequest, bot_pb2.EnableBotResponse)
    disable_bot = Unary(bot_pb2.DisableBotRequest, bot_pb2.DisableBotResponse)


class OrderClient(Client[Conn]):
    """The orders that forms have written."""

    service = "parley.dialog.v1.OrderService"

    list_orders = Unary(order_pb2.ListOrdersRequest, order_pb2.ListOrdersResponse)


class TenantClient(Client[Conn]):
    """Tenants and their API keys."""

    service = "parley.dialog.v1.TenantService"

    create_tenant = Unary(tenant_pb2.CreateTenantRequest, tenant_pb2.CreateTenantResponse)
    get_tenant = Unary(tenant_pb2.GetTenantRequest, tenant_pb2.GetTenantResponse)
    update_tenant = Unary(tenant_pb2.UpdateTenantRequest, tenant_pb2.UpdateTenantResponse)
    create_api_key = Unary(tenant_pb2.CreateApiKeyRequest, tenant_pb2.CreateApiKeyResponse)
    list_api_keys = Unary(tenant_pb2.ListApiKeysRequest, tenant_pb2.ListApiKeysResponse)
    revoke_api_key = Unary(tenant_pb2.RevokeApiKeyRequest, tenant_pb2.RevokeApiKeyResponse)
    verify_api_key = Unary(tenant_pb2.VerifyApiKeyRequest, tenant_pb2.VerifyApiKeyResponse)

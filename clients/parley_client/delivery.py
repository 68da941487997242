"""The clients for the delivery service."""

from parley.delivery.v1 import channel_pb2, delivery_pb2

from parley_client.methods import Client, Coalesced, Conn, Stream, Unary


class DeliveryClient(Client[Conn]):
    """Outgoing messages and what became of them."""

    service = "parley.delivery.v1.DeliveryService"

    send_message = Coalesced(
        delivery_pb2.SendMessageRequest,
        delivery_pb2.SendMessageResponse,
        delivery_pb2.BatchSendMessageRequest,
        delivery_pb2.BatchSendMessageResponse,
    )
    batch_send_message = Unary(delivery_pb2.BatchSendMessageRequest, delivery_pb2.BatchSendMessageResponse)
    send_signal = Unary(delivery_pb2.SendSignalRequest, delivery_pb2.SendSignalResponse)
    get_delivery = Unary(delivery_pb2.GetDeliveryRequest, delivery_pb2.GetDeliveryResponse)
    list_deliveries = Unary(delivery_pb2.ListDeliveriesRequest, delivery_pb2.ListDeliveriesResponse)
    retry_delivery = Unary(delivery_pb2.RetryDeliveryRequest, delivery_pb2.RetryDeliveryResponse)
    report_status = Unary(delivery_pb2.ReportStatusRequest, delivery_pb2.ReportStatusResponse)
    get_queue_stats = Unary(delivery_pb2.GetQueueStatsRequest, delivery_pb2.GetQueueStatsResponse)


class ChannelClient(Client[Conn]):
    """The connections between bots and providers."""

    service = "parley.delivery.v1.ChannelService"

    create_channel = Unary(channel_pb2.CreateChannelRequest, channel_pb2.CreateChannelResponse)
    get_channel = Unary(channel_pb2.GetChannelRequest, channel_pb2.GetChannelResponse)
    update_channel = Unary(channel_pb2.UpdateChannelRequest, channel_pb2.UpdateChannelResponse)
    delete_channel = Unary(channel_pb2.DeleteChannelRequest, channel_pb2.DeleteChannelResponse)
    list_channels = Unary(channel_pb2.ListChannelsRequest, channel_pb2.ListChannelsResponse)
    enable_channel = Unary(channel_pb2.EnableChannelRequest, channel_pb2.EnableChannelResponse)
    disable_channel = Unary(channel_pb2.DisableChannelRequest, channel_pb2.DisableChannelResponse)
    watch_channels = Stream(channel_pb2.WatchChannelsRequest, channel_pb2.WatchChannelsResponse, timeout=None)

"""The client for the telemetry service."""

from parley.telemetry.v1 import telemetry_pb2

from parley_client.methods import Client, Conn, Unary


class TelemetryClient(Client[Conn]):
    """The traces that the telemetry service keeps."""

    service = "parley.telemetry.v1.TelemetryService"

    get_trace = Unary(telemetry_pb2.GetTraceRequest, telemetry_pb2.GetTraceResponse)
    find_traces = Unary(telemetry_pb2.FindTracesRequest, telemetry_pb2.FindTracesResponse)
    get_stats = Unary(telemetry_pb2.GetStatsRequest, telemetry_pb2.GetStatsResponse)

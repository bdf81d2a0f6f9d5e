"""The gRPC contract of Jobby as typed stubs, one subpackage a published version.

`jobby_proto.v1.jobby_pb2` holds the messages and enums of `jobby.v1`, and
`jobby_proto.v1.jobby_pb2_grpc` the stub and the servicer's base class. Both
are generated from `jobby/v1/jobby.proto`. Only the latter imports grpc.
"""

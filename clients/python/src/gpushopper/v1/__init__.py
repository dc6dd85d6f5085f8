"""The contract: messages and services of `proto/gpushopper/v1`. Generated; do not edit."""

from gpushopper.v1.amount_pb2 import *
from gpushopper.v1.cost_service_pb2 import *
from gpushopper.v1.event_pb2 import *
from gpushopper.v1.inventory_service_pb2 import *
from gpushopper.v1.offer_pb2 import *
from gpushopper.v1.operator_service_pb2 import *
from gpushopper.v1.session_pb2 import *
from gpushopper.v1.session_service_pb2 import *
from gpushopper.v1.cost_service_pb2_grpc import CostServiceStub as CostServiceStub
from gpushopper.v1.inventory_service_pb2_grpc import InventoryServiceStub as InventoryServiceStub
from gpushopper.v1.operator_service_pb2_grpc import OperatorServiceStub as OperatorServiceStub
from gpushopper.v1.session_service_pb2_grpc import SessionServiceStub as SessionServiceStub
from google.type.money_pb2 import Money as Money

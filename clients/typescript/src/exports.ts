// What both entries export.
export { Code } from "@connectrpc/connect";
export { GpuShopper, type ClientOptions, pages, type SessionFilterInit, type WaitOptions } from "./client.js";
export { type ErrorParts, type FieldViolation, GpuShopperError, SessionEndedError } from "./errors.js";
export type { Patience } from "./insist.js";
export { Usd } from "./money.js";
export type { WatchAllOptions, WatchMessage, WatchOptions } from "./watch.js";
export { type Money, MoneySchema } from "./gen/google/type/money_pb.js";
export * from "./gen/gpushopper/v1/amount_pb.js";
export * from "./gen/gpushopper/v1/cost_service_pb.js";
export * from "./gen/gpushopper/v1/event_pb.js";
export * from "./gen/gpushopper/v1/inventory_service_pb.js";
export * from "./gen/gpushopper/v1/offer_pb.js";
export * from "./gen/gpushopper/v1/operator_service_pb.js";
export * from "./gen/gpushopper/v1/session_pb.js";
export * from "./gen/gpushopper/v1/session_service_pb.js";

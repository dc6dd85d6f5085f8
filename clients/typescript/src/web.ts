// The client for browsers: gRPC-Web by fetch. It has everything but the saving of key files.
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { bearer, serverUrl } from "./address.js";
import { type ClientOptions, GpuShopper } from "./client.js";

export * from "./exports.js";

/**
 * A client of the server at this address; no connection is made before the first call. Default: the server that the page came from.
 * Another one must name the page's origin in its `SERVER_ALLOWED_ORIGINS`, or the browser refuses every call.
 */
export function connect(url: string = location.origin, options: ClientOptions = {}): GpuShopper {
  return new GpuShopper(createGrpcWebTransport({ baseUrl: serverUrl(url), interceptors: bearer(options.token) }), options);
}

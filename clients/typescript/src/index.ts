// The client for Node: gRPC over HTTP/2.
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { bearer, serverUrl } from "./address.js";
import { type ClientOptions, GpuShopper } from "./client.js";

export * from "./exports.js";
export { type KeyFileOptions, saveKey } from "./keyfile.js";

/** Options of a client in Node. */
export interface NodeOptions extends ClientOptions {
  /** PEM certificates of the only authorities to trust with `https`. Default: Node's. */
  readonly ca?: string | Uint8Array;
  /** PEM certificate and private key of the client itself, for servers that ask for them. */
  readonly identity?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array };
}

/** A client of the server at this address; no connection is made before the first call. Close it to let the program end. */
export function connect(url: string, options: NodeOptions = {}): GpuShopper {
  const baseUrl = serverUrl(url);
  const pem = (text: string | Uint8Array) => (typeof text === "string" ? text : Buffer.from(text));
  const ca = options.ca === undefined ? {} : { ca: pem(options.ca) };
  const identity = options.identity === undefined ? {} : { cert: pem(options.identity.cert), key: pem(options.identity.key) };
  const sessionManager = new Http2SessionManager(baseUrl, { pingIntervalMs: 30_000, pingTimeoutMs: 15_000 }, { ...ca, ...identity });
  const transport = createGrpcTransport({ baseUrl, interceptors: bearer(options.token), sessionManager });
  return new GpuShopper(transport, options, () => sessionManager.abort());
}

// The client for Node: gRPC over HTTP/2.
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { readFileSync } from "node:fs";
import { bearer, serverUrl } from "./address.js";
import { type ClientOptions, GpuShopper } from "./client.js";

export * from "./exports.js";
export { type KeyFileOptions, saveKey } from "./keyfile.js";

/** Options of a client in Node. What is not given comes from the environment, with the names that the command line knows. */
export interface NodeOptions extends ClientOptions {
  /** Sent with each call as `authorization: Bearer …`. Default: `GPU_SHOPPER_TOKEN`, else what the file `GPU_SHOPPER_TOKEN_FILE` holds, else none; an empty one is none. */
  readonly token?: string;
  /** PEM certificates of the only authorities to trust with `https`. Default: those in the file `GPU_SHOPPER_CA_CERT`, else Node's. */
  readonly ca?: string | Uint8Array;
  /** PEM certificate and private key of the client itself, for servers that ask for them. Default: the files `GPU_SHOPPER_CLIENT_CERT` and `GPU_SHOPPER_CLIENT_KEY`, else none. */
  readonly identity?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array };
}

/**
 * A client of the server at this address, `http://host:port`, `https://host:port` or `host:port`; no connection is made before the
 * first call. Close it to let the program end. Default: `GPU_SHOPPER_URL`, else `http://127.0.0.1:8080`.
 *
 * Throws a TypeError for an address that makes no sense, and what reading throws for a file of the environment that can't be read.
 */
export function connect(url?: string, options: NodeOptions = {}): GpuShopper {
  const { GPU_SHOPPER_URL, GPU_SHOPPER_TOKEN, GPU_SHOPPER_TOKEN_FILE, GPU_SHOPPER_CA_CERT, GPU_SHOPPER_CLIENT_CERT, GPU_SHOPPER_CLIENT_KEY } = process.env;
  const baseUrl = serverUrl(url || GPU_SHOPPER_URL || "http://127.0.0.1:8080");
  const token = options.token ?? (GPU_SHOPPER_TOKEN || (GPU_SHOPPER_TOKEN_FILE ? readFileSync(GPU_SHOPPER_TOKEN_FILE, "utf8").trim() : ""));
  if (!GPU_SHOPPER_CLIENT_CERT !== !GPU_SHOPPER_CLIENT_KEY) throw new TypeError("GPU_SHOPPER_CLIENT_CERT and GPU_SHOPPER_CLIENT_KEY go together: set both, or none");
  const tls: { ca?: string | Buffer; cert?: string | Buffer; key?: string | Buffer } = {};
  if (baseUrl.startsWith("https:")) {
    const pem = (text: string | Uint8Array) => (typeof text === "string" ? text : Buffer.from(text));
    if (options.ca !== undefined) tls.ca = pem(options.ca);
    else if (GPU_SHOPPER_CA_CERT) tls.ca = readFileSync(GPU_SHOPPER_CA_CERT);
    if (options.identity !== undefined) [tls.cert, tls.key] = [pem(options.identity.cert), pem(options.identity.key)];
    else if (GPU_SHOPPER_CLIENT_CERT && GPU_SHOPPER_CLIENT_KEY) [tls.cert, tls.key] = [readFileSync(GPU_SHOPPER_CLIENT_CERT), readFileSync(GPU_SHOPPER_CLIENT_KEY)];
  }
  // Together less than the silence that ends a watch by itself (35 s by default): so its next stream does not begin on a mute connection.
  const sessionManager = new Http2SessionManager(baseUrl, { pingIntervalMs: 20_000, pingTimeoutMs: 10_000 }, tls);
  const transport = createGrpcTransport({ baseUrl, interceptors: bearer(token), sessionManager });
  return new GpuShopper(transport, options, () => sessionManager.abort());
}

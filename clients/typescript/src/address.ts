// Where the server is, and what is sent with each call.
import type { Interceptor } from "@connectrpc/connect";

/** Reads `http://host:port`, `https://host:port` or `host:port`. Throws a TypeError for anything else. */
export function serverUrl(text: string): string {
  const wrong = () => new TypeError("the server's address makes no sense; allowed: http://host:port, https://host:port or host:port");
  let url: URL;
  try {
    url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `http://${text}`);
  } catch {
    throw wrong();
  }
  if (!["http:", "https:"].includes(url.protocol) || url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") throw wrong();
  return url.href.replace(/\/$/, "");
}

/** Sends the token with each call. */
export function bearer(token: string | undefined): Interceptor[] {
  if (token === undefined) return [];
  return [
    (next) => (request) => {
      request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    },
  ];
}

// Where the server is, and what is sent with each call.
import type { Interceptor } from "@connectrpc/connect";

/** Reads `http://host:port`, `https://host:port` or `host:port`. Throws a TypeError for anything else, which does not repeat it: there may be a password in it. */
export function serverUrl(text: string): string {
  const wrong = () => new TypeError("the server's address makes no sense; allowed: http://host:port, https://host:port or host:port; a token goes into the options");
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `http://${text}`);
  } catch {
    throw wrong();
  }
  if (!["http:", "https:"].includes(url.protocol) || url.username !== "" || url.password !== "" || url.pathname !== "/" || /[?#]/.test(text)) throw wrong();
  return url.origin;
}

/** Sends the token with each call. Throws a TypeError when no header can carry it. */
export function bearer(token: string | undefined): Interceptor[] {
  if (!token) return [];
  if (!/^[!-~]+$/.test(token)) throw new TypeError("the token has characters that no header can carry; allowed: visible ASCII");
  return [
    (next) => (request) => {
      request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    },
  ];
}

// A server with a certificate of its own authority: trusted when that is named, shown the client's own certificate, and told the token;
// by the program or by its environment.
import { connectNodeAdapter } from "@connectrpc/connect-node";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import * as gs from "../src/index.js";
import { folder as temporary } from "./world.js";

test("https with the authority's certificate, and the token as a bearer", async (t) => {
  const folder = temporary(t);
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  execFileSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test"],
    ...["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
  ], { stdio: "pipe" });
  const told: (string | null)[] = [];
  const routes = connectNodeAdapter({
    routes: ({ service }) => {
      service(gs.SessionService, {
        getSession(request, context) {
          told.push(context.requestHeader.get("authorization"));
          return { session: { sessionId: request.sessionId } };
        },
      });
    },
  });
  const server = createSecureServer({ cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(cert), requestCert: true, rejectUnauthorized: true }, routes);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const trusting = gs.connect(url, { ca: readFileSync(cert), token: "gs_secret", identity: { cert: readFileSync(cert), key: readFileSync(key, "utf8") } });
  const environment = { GPU_SHOPPER_URL: url, GPU_SHOPPER_CA_CERT: cert, GPU_SHOPPER_CLIENT_CERT: cert, GPU_SHOPPER_CLIENT_KEY: key, GPU_SHOPPER_TOKEN_FILE: join(folder, "token") };
  const before = { ...process.env };
  Object.assign(process.env, environment);
  writeFileSync(environment.GPU_SHOPPER_TOKEN_FILE, "gs_file\n");
  const [named, given] = [gs.connect(), gs.connect("", { token: "gs_given" })];
  const anonymous = gs.connect(undefined, { token: "" });
  process.env["GPU_SHOPPER_CA_CERT"] = join(folder, "none.pem");
  assert.throws(() => gs.connect(), /none\.pem/);
  process.env["GPU_SHOPPER_CLIENT_KEY"] = "";
  assert.throws(() => gs.connect(), /go together/);
  process.env = before;
  const nameless = gs.connect(url, { ca: readFileSync(cert), timeoutMs: 300 });
  const strange = gs.connect(url, { timeoutMs: 300 });
  try {
    assert.equal((await trusting.sessions.getSession({ sessionId: "s" })).session?.sessionId, "s");
    for (const client of [named, given, anonymous]) await client.sessions.getSession({ sessionId: "s" });
    assert.deepEqual(told, ["Bearer gs_secret", "Bearer gs_file", "Bearer gs_given", null]);
    await assert.rejects(strange.sessions.getSession({ sessionId: "s" }), (error: gs.GpuShopperError) => error instanceof gs.GpuShopperError && error.reason === "");
    await assert.rejects(nameless.sessions.getSession({ sessionId: "s" }), gs.GpuShopperError);
    assert.equal(told.length, 4);
    assert.throws(() => gs.connect(url, { token: "gs_secret\n" }), (error: TypeError) => error instanceof TypeError && !error.message.includes("secret"));
  } finally {
    for (const client of [trusting, named, given, anonymous, nameless, strange]) client.close();
    server.close();
  }
});

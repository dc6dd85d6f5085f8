// The client in a real browser: a bundled page in headless Chromium, served beside a forwarder to the server, as behind any
// reverse proxy: page and server have one origin.
import { build } from "esbuild";
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { folder, world } from "./world.js";

function browser(): string {
  const names = process.env["CHROMIUM"] ? [process.env["CHROMIUM"]] : ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  const found = names.find((name) => spawnSync(name, ["--version"]).status === 0);
  if (!found) throw new Error(`no browser: install Chromium, or name one with CHROMIUM (looked for ${names.join(", ")})`);
  return found;
}

test("a page lists offers and watches a session to its end by gRPC-Web", { timeout: 600_000 }, async (t) => {
  const program = browser();
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL("page.js", import.meta.url))],
    bundle: true,
    format: "esm",
    minify: true,
    write: false,
    platform: "browser",
  });
  const script = bundle.outputFiles[0]?.text ?? "";
  assert.ok(!script.includes("node:"), "nothing of Node's is in the bundle");
  const sockets = new Set<Socket>();
  let tell: (told: Record<string, unknown>) => void = () => {};
  const told = new Promise<Record<string, unknown>>((resolve) => (tell = resolve));

  let server = "";
  const forward = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const onward = request(new URL(incoming.url ?? "/", server), { method: incoming.method ?? "POST", headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
      answer.on("error", () => outgoing.destroy());
    });
    onward.on("error", () => outgoing.destroy());
    outgoing.on("close", () => onward.destroy());
    incoming.pipe(onward);
  };
  const site = createServer((incoming, outgoing) => {
    if (incoming.url?.startsWith("/gpushopper.v1.")) return forward(incoming, outgoing);
    if (incoming.url === "/told") {
      let body = "";
      incoming.on("data", (chunk: Buffer) => (body += chunk.toString()));
      incoming.on("end", () => {
        outgoing.end();
        tell(JSON.parse(body) as Record<string, unknown>);
      });
    } else if (incoming.url === "/cut") {
      sockets.forEach((socket) => socket.destroy());
    } else {
      outgoing.setHeader("content-type", "text/html; charset=utf-8");
      outgoing.end(`<!doctype html><title>test</title><script type="module">${script.replaceAll("</script", "<\\/script")}</script>`);
    }
  });
  site.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
  const w = await world(`SERVER_ALLOWED_ORIGINS=${origin}`);
  const profile = folder(t);
  server = w.direct;
  const page = `${origin}/?elsewhere=${encodeURIComponent(w.direct)}`;
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", `--user-data-dir=${profile}`];
  const child = spawn(program, [...flags, page], { stdio: "ignore", detached: true, env: { ...process.env, TMPDIR: profile } });
  try {
    const found = await told;
    assert.equal(found["failed"], undefined);
    assert.ok((found["offers"] as number) > 100, `${String(found["offers"])} offers`);
    assert.match(found["cheapest"] as string, /^0\.\d+$/);
    assert.equal(found["error"], "NOT_FOUND SESSION_NOT_FOUND");
    assert.deepEqual(found["states"], ["PROVISIONING", "RUNNING", "STOPPING", "STOPPED"]);
    assert.equal(found["gapFree"], true);
    assert.ok((found["fromNamedOrigin"] as number) > 10, `${String(found["fromNamedOrigin"])} GPU models`);
    assert.equal(found["errorFromNamedOrigin"], "INVALID_FIELD");
    assert.equal(found["fromOtherOrigin"], "refused");
    console.log(JSON.stringify(found));
  } finally {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    sockets.forEach((socket) => socket.destroy());
    site.close();
    await w.close();
  }
});

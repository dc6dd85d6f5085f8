// A connection on which nothing comes through any more, while both ends believe that it stands: a cable was pulled, a firewall forgot it.
import { create } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttp2Server } from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import * as gs from "../src/index.js";

const listening = async (server: Pick<Server, "listen" | "address">) => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
};

test("a watch on a mute connection is resumed on another one, and does not try the mute one first", async () => {
  const asked: string[] = [];
  const routes = connectNodeAdapter({
    routes: ({ service }) => {
      service(gs.SessionService, {
        async *watchSession({ start }, context) {
          asked.push(start.case === "resumeToken" ? start.value : "");
          const last = asked.length > 1;
          const toState = last ? gs.Session_State.STOPPED : gs.Session_State.RUNNING;
          const value = create(gs.SessionEventSchema, { sessionId: "s", revision: last ? 7n : 6n, sequence: last ? 3n : 2n, toState });
          yield create(gs.WatchSessionResponseSchema, { message: { case: "event", value }, resumeToken: `t${value.revision}` });
          if (!last) await once(context.signal, "abort");
        },
      });
    },
  });
  const server = createHttp2Server(routes);
  const port = await listening(server);
  const pairs: [Socket, Socket][] = [];
  const proxy = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]] as const) from.on("error", () => to.destroy()).on("close", () => to.destroy()).pipe(to);
    pairs.push([near, far]);
  });
  const client = gs.connect(`http://127.0.0.1:${await listening(proxy)}`, { firstWaitMs: 2, longestWaitMs: 4 });
  const lost: string[] = [];
  const told: bigint[] = [];
  try {
    // 45 s without a word are a lost connection for the watch; the answer to a ping is missed long before that.
    const options = { resumeToken: "t5", bookmarkMs: 20_000, onLost: (error: gs.GpuShopperError) => lost.push(error.message) };
    for await (const message of client.watch("s", options)) {
      if (message.kind !== "event") continue;
      told.push(message.event.sequence);
      // What arrives from now on is swallowed, on both sides.
      if (told.length === 1) pairs[0]?.forEach((socket) => socket.unpipe().on("data", () => {}));
    }
    assert.deepEqual(told, [2n, 3n]);
    assert.deepEqual(asked, ["t5", "t6"]);
    assert.equal(pairs.length, 2, "another connection");
    assert.equal(lost.length, 1, lost.join("; "));
  } finally {
    client.close();
    for (const socket of pairs.flat()) socket.destroy();
    proxy.close();
    server.close();
  }
});

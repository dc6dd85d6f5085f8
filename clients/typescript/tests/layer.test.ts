// The layer against a server in memory that does what the real one does only on bad days.
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { isRepeatable } from "../src/client.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import * as gs from "../src/index.js";
import { waitBefore } from "../src/insist.js";
import { serverUrl } from "../src/address.js";
import { folder as temporary } from "./world.js";

const QUICK = { firstWaitMs: 2, longestWaitMs: 4 };

function refuse(code: Code, reason: string, retryMs?: number): ConnectError {
  const info = { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain: "gpushopper", metadata: { session_id: "s" } }) };
  const bad = { desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations: [{ field: "disk_gb", description: "too small" }] }) };
  const retry = { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay: { seconds: 0n, nanos: (retryMs ?? 0) * 1e6 } }) };
  return new ConnectError("no", code, undefined, [info, bad, ...(retryMs === undefined ? [] : [retry])]);
}

/** A message, an error that ends the stream, or a silence for as long as the client stands it. */
type Told = gs.WatchSessionResponse["message"] | "silence" | ConnectError;
const session = (sessionId: string, state = gs.Session_State.RUNNING, sequence = 0n) => create(gs.SessionSchema, { sessionId, state, sequence });
const snapshot = (s: gs.Session): Told => ({ case: "snapshot", value: s });
const snapshotEnd = (revision: bigint): Told => ({ case: "snapshotEnd", value: create(gs.SnapshotEndSchema, { revision }) });
const event = (revision: bigint, sequence: bigint, toState = gs.Session_State.RUNNING): Told => ({
  case: "event",
  value: create(gs.SessionEventSchema, { sessionId: "s", revision, sequence, toState }),
});
const LAST = gs.Session_State.STOPPED;

/** A server whose watches play one script after the other, and what they were asked to begin with. Asked for the session, it tells `state`. */
function watched(...scripts: Told[][]): { client: gs.GpuShopper; asked: string[]; now: { state: gs.Session_State } } {
  const asked: string[] = [];
  const now = { state: LAST };
  async function* play(start: gs.WatchSessionsRequest["start"] | gs.WatchSessionRequest["start"], context: HandlerContext) {
    asked.push(start.case === "resumeToken" ? start.value : start.case === "endedSince" ? timestampDate(start.value).toISOString() : (start.case ?? ""));
    const script = scripts.shift() ?? raise("watched too often");
    for (const message of script) {
      if (message instanceof ConnectError) throw message;
      if (message === "silence") {
        await once(context.signal, "abort");
        return;
      }
      const revision = message.case === "snapshot" ? undefined : message.value?.revision;
      yield { message, resumeToken: revision === undefined ? "" : `t${revision}` };
    }
  }
  const transport = createRouterTransport(({ service }) => {
    service(gs.SessionService, {
      watchSession: (request, context) => play(request.start, context),
      watchSessions: (request, context) => play(request.start, context),
      getSession(request) {
        asked.push("session?");
        return { session: session(request.sessionId, now.state) };
      },
    });
  });
  return { client: new gs.GpuShopper(transport, QUICK), asked, now };
}

function raise(message: string): never {
  throw new Error(message);
}

async function all(watch: AsyncIterable<gs.WatchMessage>): Promise<string[]> {
  const told: string[] = [];
  for await (const m of watch) {
    told.push(m.kind === "event" ? `event ${m.event.sequence}` : m.kind === "snapshot" ? `snapshot ${m.sessions.length}` : m.kind === "reset" ? m.reason : m.kind);
  }
  return told;
}

const gone = () => new ConnectError("connection lost", Code.Aborted);

test("a watch goes on after its last token and tells each event once", async () => {
  const { client, asked } = watched(
    [snapshot(session("s", undefined, 1n)), snapshotEnd(5n), event(6n, 2n), gone()],
    [event(6n, 2n), event(7n, 3n), refuse(Code.Unavailable, "SERVER_DRAINING", 1)],
    [event(8n, 4n, LAST)],
  );
  assert.deepEqual(await all(client.watch("s")), ["snapshot 1", "event 2", "event 3", "event 4"]);
  assert.deepEqual(asked, ["", "t6", "t7"]);
});

test("one session's watch ends after its end only, however often its stream ends early", async () => {
  const { client, asked, now } = watched([event(6n, 2n)], [], [snapshot(session("s"))], [event(7n, 3n, LAST)]);
  now.state = gs.Session_State.STOPPING;
  assert.deepEqual(await all(client.watch("s", { resumeToken: "t5" })), ["event 2", "event 3"]);
  assert.deepEqual(asked, ["t5", "t6", "session?", "t6", "t6"]);
  const cut = watched([event(7n, 3n, LAST), gone()], []);
  assert.deepEqual(await all(cut.client.watch("s", { resumeToken: "t5" })), ["event 3"], "the end was told");
  const half = watched([snapshot(session("s", LAST))], [snapshot(session("s", LAST)), snapshotEnd(5n)]);
  assert.deepEqual(await all(half.client.watch("s")), ["snapshot 1"]);
  const over = watched([]);
  assert.deepEqual(await all(over.client.watch("s", { resumeToken: "t9" })), [], "after the end there is nothing to tell");
  assert.deepEqual(over.asked, ["t9", "session?"]);
});

test("the watch of many sessions never ends by itself, and waits longer and longer when its stream always ends", async () => {
  const waits: number[] = [];
  const stop = new AbortController();
  // A snapshot is no progress; an event is.
  const { client, asked } = watched([snapshot(session("s", LAST)), snapshotEnd(5n), event(6n, 1n, LAST)], ...Array.from({ length: 9 }, () => [snapshotEnd(6n)]));
  const onLost = (error: gs.GpuShopperError, waitMs: number) => {
    assert.equal(error.code, Code.Unavailable);
    waits.push(waitMs);
    if (waits.length === 4) stop.abort();
  };
  assert.deepEqual((await all(client.watchAll({}, { onLost, signal: stop.signal }))).slice(0, 2), ["snapshot 1", "event 1"]);
  assert.deepEqual(asked, ["", "t6", "t6", "t6"]);
  waits.forEach((wait, tries) => assert.ok(wait >= Math.min(4, 2 * 2 ** tries) / 2, `${waits.join(", ")} ms`));
});

test("what breaks between here and the server is resumed over, whatever it is called; what the server refuses is not", async () => {
  const between = [Code.Aborted, Code.DeadlineExceeded, Code.DataLoss, Code.Unknown, Code.Internal, Code.Canceled, Code.Unavailable];
  const { client, asked } = watched(...between.map((code) => [new ConnectError("cut", code)]), [event(6n, 2n, LAST)]);
  assert.deepEqual(await all(client.watch("s", { resumeToken: "t5" })), ["event 2"]);
  assert.equal(asked.length, between.length + 1);
  const full = watched([refuse(Code.ResourceExhausted, "TOO_MANY_STREAMS", 1)], [event(6n, 2n, LAST)]);
  assert.deepEqual(await all(full.client.watch("s", { resumeToken: "t5" })), ["event 2"], "the server asks to come back");
  for (const code of [Code.Aborted, Code.Internal, Code.PermissionDenied, Code.ResourceExhausted]) {
    const refused = watched([refuse(code, "ITS_REASON")]);
    await assert.rejects(all(refused.client.watch("s", { resumeToken: "t5" })), { code, reason: "ITS_REASON" });
  }
  const foreign = new ConnectError("no", Code.Aborted, undefined, [{ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason: "LB", domain: "proxy" }) }]);
  const proxied = watched([foreign], [event(6n, 2n, LAST)]);
  assert.deepEqual(await all(proxied.client.watch("s", { resumeToken: "t5" })), ["event 2"], "another's reason is none of the server's");
});

test("a stream that falls silent is left and resumed after its last token", async () => {
  const lost: string[] = [];
  const { client, asked } = watched([event(6n, 2n), "silence"], [event(7n, 3n, LAST)]);
  // Twice the interval and five seconds: the shortest that there is.
  const options = { resumeToken: "t5", bookmarkMs: 1, onLost: (error: gs.GpuShopperError) => lost.push(error.message) };
  assert.deepEqual(await all(client.watch("s", options)), ["event 2", "event 3"]);
  assert.deepEqual(asked, ["t5", "t6"]);
  assert.match(lost.join(), /^not a word for 5\.002 s/);
});

test("the snapshot of many sessions has those that ended since a time, also when the watch begins anew", async () => {
  const endedSince = new Date("2026-11-23T00:00:00Z");
  const words = async (options: gs.WatchAllOptions, ...scripts: Told[][]) => {
    const { client, asked } = watched(...scripts, [refuse(Code.NotFound, "OVER")]);
    const told: string[] = [];
    await assert.rejects(async () => {
      for await (const m of client.watchAll({}, options)) told.push(m.kind);
    }, { reason: "OVER" });
    return [told, asked];
  };
  const forgot = refuse(Code.OutOfRange, "WATCH_COMPACTED");
  const [told, asked] = await words({ endedSince }, [snapshot(session("s", LAST)), snapshotEnd(5n), gone()], [forgot], [snapshotEnd(9n), gone()]);
  assert.deepEqual(told, ["snapshot", "reset", "snapshot"]);
  assert.deepEqual(asked, ["2026-11-23T00:00:00.000Z", "t5", "2026-11-23T00:00:00.000Z", "t9"]);
  assert.deepEqual(await words({ endedSince, resumeToken: "t5" }), [[], ["t5"]], "a token goes before it");
});

test("from now on means: nothing told of before, and a token at once", async () => {
  const { client, asked } = watched([snapshot(session("s"))], [snapshot(session("s")), snapshotEnd(5n), gone()], [event(6n, 1n, LAST)]);
  assert.deepEqual(await all(client.watch("s", { fromNow: true })), ["event 1"]);
  assert.deepEqual(asked, ["", "", "t5"]);
});

test("a watch whose session has ended does not wait for a server that is gone", async () => {
  const { client, asked } = watched([event(6n, 2n, LAST), gone()], [event(7n, 3n, LAST), gone()], ...Array.from({ length: 9 }, () => [gone()]));
  assert.deepEqual(await all(client.watch("s", { resumeToken: "t5" })), ["event 2", "event 3"]);
  assert.deepEqual(asked, ["t5", "t6", "t7", "t7", "t7"], "what may follow the end is looked for, and not for ever");
  const replaced = watched([event(6n, 2n, LAST), gone()], [refuse(Code.OutOfRange, "WATCH_STORE_REPLACED")]);
  assert.deepEqual(await all(replaced.client.watch("s", { resumeToken: "t5" })), ["event 2"], "the end was told: no reset, no error");
  const impatient = watched([event(6n, 2n, LAST), gone()]);
  assert.deepEqual(await all(impatient.client.watch("s", { resumeToken: "t5", giveUpMs: 0 })), ["event 2"]);
});

test("a session that a replaced database does not know is told as a reset and then as an error", async () => {
  const { client } = watched([event(6n, 2n), gone()], [refuse(Code.OutOfRange, "WATCH_STORE_REPLACED")], [refuse(Code.NotFound, "SESSION_NOT_FOUND")]);
  const told: string[] = [];
  await assert.rejects(async () => {
    for await (const m of client.watch("s", { resumeToken: "t5" })) told.push(m.kind === "reset" ? m.reason : m.kind);
  }, { reason: "SESSION_NOT_FOUND" });
  assert.deepEqual(told, ["event", "WATCH_STORE_REPLACED"]);
});

test("the pages of any call are fetched one after the other, from where they are to begin", async () => {
  const asked: string[] = [];
  const transport = createRouterTransport(({ service }) => {
    service(gs.CostService, {
      listLedgerEntries({ pageSize, pageToken }) {
        asked.push(`${pageSize} ${pageToken}`);
        return { entries: [{ sessionId: `after ${pageToken}` }], nextPageToken: pageToken === "b" ? "" : "b" };
      },
    });
  });
  const client = new gs.GpuShopper(transport, QUICK);
  const told: string[] = [];
  for await (const page of gs.pages(client.costs.listLedgerEntries, { pageSize: 7, pageToken: "a" })) told.push(...page.entries.map((entry) => entry.sessionId));
  assert.deepEqual(told, ["after a", "after b"]);
  assert.deepEqual(asked, ["7 a", "7 b"]);
});

test("repeats are left out, and a drain is waited for", async () => {
  const lost: number[] = [];
  const { client, asked } = watched(
    [event(6n, 2n), event(6n, 2n), event(7n, 3n), refuse(Code.Unavailable, "SERVER_DRAINING", 20)],
    [event(7n, 3n), event(8n, 4n, LAST)],
  );
  assert.deepEqual(await all(client.watch("s", { resumeToken: "t5", onLost: (_, waitMs) => lost.push(waitMs) })), ["event 2", "event 3", "event 4"]);
  assert.deepEqual(asked, ["t5", "t7"]);
  assert.equal(lost.length, 1);
  assert.ok((lost[0] ?? 0) >= 20, "the server's wish is honoured");
});

test("a snapshot is told once and whole, however often it is begun", async () => {
  const { client, asked } = watched(
    [snapshot(session("s")), gone()],
    [snapshot(session("s")), snapshotEnd(5n), event(6n, 1n, LAST)],
  );
  assert.deepEqual(await all(client.watch("s")), ["snapshot 1", "event 1"]);
  assert.deepEqual(asked, ["", ""]);
});

test("a gap is resumed over, and told when it stays", async () => {
  const healed = watched([event(6n, 2n), event(8n, 4n)], [event(7n, 3n), event(8n, 4n, LAST)]);
  assert.deepEqual(await all(healed.client.watch("s", { resumeToken: "t5" })), ["event 2", "event 3", "event 4"]);
  assert.deepEqual(healed.asked, ["t5", "t6"]);
  const gap = () => [event(8n, 4n)];
  const broken = watched([event(6n, 2n), event(8n, 4n)], gap(), gap(), gap());
  await assert.rejects(all(broken.client.watch("s", { resumeToken: "t5" })), { code: Code.DataLoss, reason: "WATCH_GAP" });
});

test("where the server forgot, the watch begins anew and says so", async () => {
  for (const reason of ["WATCH_COMPACTED", "WATCH_STORE_REPLACED"]) {
    const { client, asked } = watched(
      [event(6n, 2n), gone()],
      [refuse(Code.OutOfRange, reason)],
      [snapshot(session("s", undefined, 1n)), snapshotEnd(1n), event(2n, 2n, LAST)],
    );
    assert.deepEqual(await all(client.watch("s", { resumeToken: "t5" })), ["event 2", reason, "snapshot 1", "event 2"]);
    assert.deepEqual(asked, ["t5", "t6", ""]);
  }
});

test("what the server refuses for good ends the watch, and so do the caller's signal and the end of its patience", async () => {
  const { client } = watched([refuse(Code.NotFound, "SESSION_NOT_FOUND")]);
  await assert.rejects(all(client.watch("s")), { name: "GpuShopperError", code: Code.NotFound, reason: "SESSION_NOT_FOUND", codeName: "NOT_FOUND" });
  const stop = new AbortController();
  const endless = watched([event(6n, 2n), gone()], [event(7n, 3n), gone()], [gone()], [gone()]);
  const told: bigint[] = [];
  for await (const m of endless.client.watch("s", { resumeToken: "t5", signal: stop.signal })) {
    if (m.kind === "event") told.push(m.event.sequence);
    if (told.length === 2) stop.abort();
  }
  assert.deepEqual(told, [2n, 3n]);
  const closed = watched([event(6n, 2n), gone()]);
  for await (const m of closed.client.watch("s", { resumeToken: "t5" })) if (m.kind === "event") closed.client.close();
  assert.deepEqual(closed.asked, ["t5"]);
  const away = watched(...Array.from({ length: 200 }, () => [gone()]));
  await assert.rejects(all(away.client.watch("s", { resumeToken: "t5", giveUpMs: 20 })), { code: Code.Aborted });
});

function changing(answer: (request: gs.CreateSessionRequest, tries: number, context: HandlerContext) => ConnectError | string) {
  const ids: string[] = [];
  const transport = createRouterTransport(({ service }) => {
    service(gs.SessionService, {
      createSession(request, context) {
        ids.push(request.requestId);
        const told = answer(request, ids.length, context);
        if (told instanceof ConnectError) throw told;
        return { session: { sessionId: told } };
      },
    });
    service(gs.OperatorService, {
      drainSessions() {
        ids.push("drain");
        throw gone();
      },
    });
  });
  return { client: new gs.GpuShopper(transport, QUICK), ids };
}

test("a change gets a request id and is repeated with it while the server is away", async () => {
  const faults = [refuse(Code.Unavailable, "RESTARTING", 5), gone(), new ConnectError("cut", Code.Internal)];
  const { client, ids } = changing((_, tries) => faults[tries - 1] ?? "s");
  const answer = await client.sessions.createSession({ target: { case: "offerId", value: "vastai-1" } });
  assert.equal(answer.session?.sessionId, "s");
  assert.equal(ids.length, 4);
  assert.equal(new Set(ids).size, 1);
  assert.match(ids[0] ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  await client.sessions.createSession(create(gs.CreateSessionRequestSchema, { requestId: "mine" }));
  assert.equal(ids.at(-1), "mine");
});

test("what would change nothing or do harm is not repeated", async () => {
  const refused = changing(() => refuse(Code.InvalidArgument, "INVALID_FIELD"));
  await assert.rejects(refused.client.sessions.createSession({}), (error: gs.GpuShopperError) => {
    assert.ok(error instanceof gs.GpuShopperError);
    assert.deepEqual(error.violations, [{ field: "disk_gb", description: "too small" }]);
    assert.deepEqual(error.metadata, { session_id: "s" });
    assert.equal(error.codeName, "INVALID_ARGUMENT");
    assert.equal(error.retryable, false);
    return true;
  });
  assert.equal(refused.ids.length, 1);
  await assert.rejects(refused.client.operator.drainSessions({}), { code: Code.Aborted });
  assert.deepEqual(refused.ids.slice(1), ["drain"]);
  const names = [gs.SessionService, gs.InventoryService, gs.CostService].flatMap((s) => s.methods);
  assert.deepEqual(names.filter((m) => m.methodKind === "unary" && !isRepeatable(m)), []);
});

test("a call gives up when its time is over", async () => {
  const { client, ids } = changing(() => refuse(Code.Unavailable, "STARTING", 400));
  await assert.rejects(client.sessions.createSession({}, { timeoutMs: 1_500 }), { code: Code.Unavailable, reason: "STARTING", retryAfterMs: 400 });
  assert.ok(ids.length >= 2 && ids.length <= 4, `${ids.length} tries`);
  const stop = new AbortController();
  const waiting = client.sessions.createSession({}, { signal: stop.signal });
  stop.abort();
  await assert.rejects(waiting, { code: Code.Canceled });
});

test("waiting for RUNNING tells an end from it", async () => {
  const states = [gs.Session_State.PROVISIONING, gs.Session_State.STOPPING];
  const transport = createRouterTransport(({ service }) => {
    service(gs.SessionService, {
      waitSession(request) {
        const state = states.shift() ?? gs.Session_State.RUNNING;
        const error = state === gs.Session_State.STOPPING ? "no driver" : "";
        return { session: { sessionId: request.sessionId, state, error, endReason: error ? gs.EndReason.VERIFY_FAILED : 0 }, reached: request.until.includes(state) };
      },
    });
  });
  const client = new gs.GpuShopper(transport, QUICK);
  await assert.rejects(client.waitForRunning("s"), (error: gs.SessionEndedError) => {
    assert.ok(error instanceof gs.SessionEndedError);
    assert.equal(error.session.endReason, gs.EndReason.VERIFY_FAILED);
    assert.match(error.message, /VERIFY_FAILED: no driver/);
    return true;
  });
  assert.equal((await client.waitForRunning("s")).state, gs.Session_State.RUNNING);
  states.push(...Array.from({ length: 9 }, () => gs.Session_State.PENDING));
  await assert.rejects(client.waitForRunning("s", { timeoutMs: 0 }), { code: Code.DeadlineExceeded, message: /it is PENDING$/ });
  assert.equal((await client.waitForRunning("s", { timeoutMs: Infinity })).state, gs.Session_State.RUNNING);
});

test("waits double within bounds and honour what the server asks for", () => {
  for (let tries = 0; tries < 40; tries++) {
    const most = Math.min(10_000, 200 * 2 ** tries);
    const wait = waitBefore(tries, {});
    assert.ok(wait >= most / 2 && wait <= most, `${tries}: ${wait}`);
  }
  assert.equal(waitBefore(0, {}, 33_000), 33_000);
});

test("amounts are exact, and what is not is refused", () => {
  for (const [text, units, nanos] of [["0", 0n, 0], ["0.36", 0n, 360_000_000], ["12", 12n, 0], ["-1.75", -1n, -750_000_000], ["-0.000000001", 0n, -1]] as const) {
    const money = gs.Usd.parse(text).toMoney();
    assert.deepEqual([money.units, money.nanos, money.currencyCode], [units, nanos, "USD"]);
    assert.equal(gs.Usd.from(money).toString(), text);
  }
  for (const text of ["", ".", "1.", ".5", "0.0000000001", "1e3", "1,5", "--1", "NaN", "0x1"]) assert.throws(() => gs.Usd.parse(text), RangeError, text);
  assert.throws(() => gs.Usd.from(create(gs.MoneySchema, { currencyCode: "EUR" })), RangeError);
  assert.throws(() => gs.Usd.parse("9223372036854775808").toMoney(), RangeError);
  const tenth = gs.Usd.parse("$0.1");
  assert.ok(tenth.plus(tenth).plus(tenth).equals(gs.Usd.parse("0.3")) && tenth.times(3).compare(tenth) > 0);
  assert.equal(JSON.stringify({ price: tenth }), '{"price":"0.1"}');
  assert.ok(gs.Usd.from(undefined).equals(gs.Usd.zero) && tenth.minus(tenth).equals(gs.Usd.zero));
});

test("keys are for their owner alone and never overwritten silently", async (t) => {
  const folder = temporary(t);
  const path = join(folder, "key.pem");
  await gs.saveKey(path, "one");
  await assert.rejects(gs.saveKey(path, "two"), { code: "EEXIST" });
  assert.equal(await readFile(path, "utf8"), "one");
  await gs.saveKey(path, "two", { overwrite: true });
  assert.equal(await readFile(path, "utf8"), "two");
  assert.equal((await stat(path)).mode & 0o7777, 0o600);
  await assert.rejects(gs.saveKey(join(folder, "none.pem"), ""), TypeError);
  assert.deepEqual(await readdir(folder), ["key.pem"]);
});

test("addresses", () => {
  for (const [text, url] of [["127.0.0.1:8080", "http://127.0.0.1:8080"], ["https://gpu.example/", "https://gpu.example"], ["[::1]:9", "http://[::1]:9"], ["gpu_host:8080", "http://gpu_host:8080"]] as const) {
    assert.equal(serverUrl(text), url);
  }
  for (const bad of ["", "ftp://x", "http://", "http://u:secret@x:1", "u:secret@x", "http://x:99999", "http://x/?a=1", "http://x/api", "x#a"]) {
    assert.throws(() => serverUrl(bad), (error: TypeError) => error instanceof TypeError && !error.message.includes("secret"), bad);
  }
});

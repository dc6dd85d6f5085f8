// The connection is cut at random a thousand times while sessions change: what the watches tell is exactly the log.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as gs from "../src/index.js";
import { world } from "./world.js";

const CUTS = Number(process.env["STORM_CUTS"] ?? 1_000);
const patience = { firstWaitMs: 2, longestWaitMs: 50 };

/** Waits for some work as long as a number moves, however slow the machine is; fails when it stands for a minute. */
async function whileMoving<T>(work: Promise<T>, count: () => number): Promise<T> {
  const ended = work.then(() => true, () => true);
  for (let [last, still] = [count(), 0]; !(await Promise.race([ended, sleep(1_000, false)])); ) {
    still = count() === last ? still + 1 : 0;
    last = count();
    if (still >= 60) throw new Error(`nothing has happened for a minute after ${last} events`);
  }
  return work;
}

test(`after ${CUTS} cuts the union of events is exactly the log`, async () => {
  const w = await world();
  const direct = gs.connect(w.direct);
  const [one, all] = [gs.connect(w.url, patience), gs.connect(w.url, patience)];
  try {
    const rent = () => {
      const filter = { providers: ["tensordock"], gpuModels: ["RTX 4090"] };
      return direct.sessions.createSession({ target: { case: "requirements", value: { filter } } });
    };
    const stop = new AbortController();
    let [lost, last] = [0, -1n];
    let begun: () => void = () => {};
    const beginning = new Promise<void>((resolve) => (begun = resolve));
    const every: gs.SessionEvent[] = [];
    const watchingAll = (async () => {
      for await (const m of all.watchAll({}, { signal: stop.signal, onLost: () => lost++ })) {
        if (m.kind === "snapshot") begun();
        if (m.kind === "event") every.push(m.event);
        if (m.kind === "event" && m.event.revision === last) stop.abort();
      }
    })();
    await beginning;
    const created = await rent();
    const id = created.session?.sessionId ?? "";
    const single: gs.SessionEvent[] = [];
    const watchingOne = (async () => {
      for await (const m of one.watch(id, { resumeToken: created.resumeToken, onLost: () => lost++ })) if (m.kind === "event") single.push(m.event);
    })();

    await w.order(`storm?cuts=${CUTS}`);
    const others = [id];
    for (let n = 0; (await w.order("storm-left")) !== "0"; n++) {
      await direct.sessions.updateSession({ sessionId: others[n % others.length] ?? id, labels: { n: String(n) } });
      if (n % 500 === 50) others.push((await rent()).session?.sessionId ?? "");
      await sleep(10);
    }
    for (const sessionId of others) await direct.sessions.destroySession({ sessionId });
    for (const sessionId of others) await direct.waitForEnd(sessionId);
    const heard = () => single.length + every.length;
    await whileMoving(watchingOne, heard);

    const log: gs.SessionEvent[] = [];
    for (const sessionId of others) for await (const e of direct.events(sessionId)) log.push(e);
    log.sort((a, b) => Number(a.revision - b.revision));
    last = log.at(-1)?.revision ?? 0n;
    if (every.at(-1)?.revision === last) stop.abort();
    await whileMoving(watchingAll, heard);

    const numbers = (events: gs.SessionEvent[]) => events.map((e) => `${e.revision} ${e.sequence} ${e.sessionId}`);
    assert.deepEqual(numbers(single), numbers(log.filter((e) => e.sessionId === id)));
    assert.deepEqual(numbers(every), numbers(log));
    assert.ok(lost >= CUTS / 2, `only ${lost} lost connections were noticed`);
    console.log(`${CUTS} cuts, ${lost} noticed; ${every.length} events of ${others.length} sessions, none lost, none twice`);
  } finally {
    for (const client of [direct, one, all]) client.close();
    await w.close();
  }
});

// What runs in the browser in browser.test.ts: it lists offers, rents the cheapest and watches it to its end, all by gRPC-Web.
import * as gs from "../src/web.js";

const told: Record<string, unknown> = {};

async function live(): Promise<void> {
  const client = gs.connect(location.origin);
  const offers: gs.Offer[] = [];
  for await (const offer of client.offers({ filter: { providers: ["tensordock"] }, pageSize: 100 })) offers.push(offer);
  told["offers"] = offers.length;
  told["cheapest"] = gs.Usd.from(offers[0]?.price?.totalPerHour).toString();
  told["error"] = await client.sessions.getSession({ sessionId: "01kaphz700fay8vvr14d2pf2db" }).catch((e: gs.GpuShopperError) => `${e.codeName} ${e.reason}`);
  const created = await client.sessions.createSession({ target: { case: "offerId", value: offers[0]?.offerId ?? "" } });
  const sessionId = created.session?.sessionId ?? "";
  const states: string[] = [];
  const sequences: bigint[] = [];
  for await (const message of client.watch(sessionId, { resumeToken: created.resumeToken })) {
    if (message.kind !== "event") continue;
    const { event } = message;
    sequences.push(event.sequence);
    if (event.fromState !== event.toState) states.push(gs.Session_State[event.toState] ?? "");
    if (event.toState === gs.Session_State.RUNNING && event.fromState !== event.toState) {
      // The proxy that the page came by loses every connection now: the watch goes on.
      await fetch("/cut", { method: "POST" }).catch(() => {});
      await client.sessions.completeSession({ sessionId });
    }
  }
  told["states"] = states;
  told["gapFree"] = sequences.every((s, i) => s === BigInt(i + 1));
  // A page of another origin than the server's: refused, as long as the server does not name it.
  const elsewhere = gs.connect(new URLSearchParams(location.search).get("elsewhere") ?? "", { timeoutMs: 1_000 });
  told["elsewhere"] = await elsewhere.inventory.listGpuModels({}).then(() => "allowed", () => "refused");
}

live()
  .catch((error: unknown) => (told["failed"] = String(error)))
  .finally(() => fetch("/told", { method: "POST", body: JSON.stringify(told) }));

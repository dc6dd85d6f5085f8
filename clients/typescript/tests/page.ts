// What runs in the browser in browser.test.ts: it lists offers, rents the cheapest and watches it to its end, all by gRPC-Web.
import * as gs from "../src/web.js";

const told: Record<string, unknown> = {};
const elsewhere = gs.connect(new URLSearchParams(location.search).get("elsewhere") ?? "", { token: "not-asked-for" });

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
  // The server itself is of another origin, and names this one; the same site by its other name is none that it names.
  told["fromNamedOrigin"] = await elsewhere.inventory.listGpuModels({}).then((a) => a.gpuModels.length);
  told["errorFromNamedOrigin"] = await elsewhere.sessions.getSession({ sessionId: "nonsense" }).catch((e: gs.GpuShopperError) => e.reason);
  const frame = document.createElement("iframe");
  const answer = new Promise<unknown>((resolve) => addEventListener("message", (message) => resolve(message.data)));
  frame.src = location.href.replace("127.0.0.1", "localhost");
  document.body.append(frame);
  told["fromOtherOrigin"] = await answer;
}

/** In the frame of the other name. */
async function framed(): Promise<void> {
  const answer = await elsewhere.inventory.listGpuModels({}, { timeoutMs: 1_000 }).then(() => "allowed", () => "refused");
  parent.postMessage(answer, "*");
}

if (parent !== window) void framed();
else
  live()
    .catch((error: unknown) => (told["failed"] = String(error)))
    .finally(() => fetch("/told", { method: "POST", body: JSON.stringify(told) }));

// Plays the conformance scenario by way of the client and prints the transcript: see clients/conformance/SPEC.md.
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as gs from "../src/index.js";

type Step = JsonObject & { id: string; op: string };

const scenario = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as { public_key: string; steps: Step[] };
const control = process.env["CONFORMANCE_CONTROL"] ?? "";
const folder = process.env["CONFORMANCE_DIR"] ?? "";
const client = gs.connect(process.env["GPU_SHOPPER_URL"] ?? "");

interface Known {
  alias: string;
  id: string;
  created: gs.CreateSessionResponse;
  token: string;
  events: gs.SessionEvent[];
}

const known: Known[] = [];
const tokens = new Map<string, string>();

const byAlias = (alias: string): Known => known.find((k) => k.alias === alias) ?? raise(`no session ${alias}`);
const aliasOf = (id: string): string => known.find((k) => k.id === id)?.alias ?? raise(`session ${id} has no alias`);
const say = (step: Step, text: string) => process.stdout.write(`${step.id}: ${text}\n`);
const stateName = (s: gs.Session_State) => `STATE_${gs.Session_State[s]}`;
const typeName = (t: gs.SessionEvent_Type) => `TYPE_${gs.SessionEvent_Type[t]}`;
const reasonName = (r: gs.EndReason) => `END_REASON_${gs.EndReason[r]}`;
const labelsOf = (labels: Record<string, string>) =>
  Object.keys(labels).sort().map((k) => `${k}=${labels[k]}`).join(",") || "-";
const sum = (amounts: gs.Usd[]) => amounts.reduce((a, b) => a.plus(b), gs.Usd.zero);

function raise(message: string): never {
  throw new Error(message);
}

/** The step's request with its texts filled in. */
function filled(value: JsonValue | undefined): JsonValue {
  if (typeof value === "string") {
    return value.replace("${public_key}", scenario.public_key).replace(/\$\{session:([^}]+)\}/g, (_, alias: string) => byAlias(alias).id);
  }
  if (Array.isArray(value)) return value.map(filled);
  if (value !== null && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, filled(v)]));
  return value ?? {};
}

async function order(what: string): Promise<void> {
  const answer = await fetch(`${control}/${what}`, { method: "POST" });
  if (!answer.ok) raise(`${what}: ${answer.status}`);
}

async function fails(step: Step): Promise<void> {
  const request = filled(step["request"]);
  try {
    switch (step["method"]) {
      case "GetOffer":
        await client.inventory.getOffer(fromJson(gs.GetOfferRequestSchema, request));
        break;
      case "GetSession":
        await client.sessions.getSession(fromJson(gs.GetSessionRequestSchema, request));
        break;
      case "CreateSession":
        await client.sessions.createSession(fromJson(gs.CreateSessionRequestSchema, request));
        break;
      case "ExtendSession":
        await client.sessions.extendSession(fromJson(gs.ExtendSessionRequestSchema, request));
        break;
      case "GetSessionCost":
        await client.costs.getSessionCost(fromJson(gs.GetSessionCostRequestSchema, request));
        break;
      case "WatchSession":
        for await (const _ of client.watch(fromJson(gs.WatchSessionRequestSchema, request).sessionId)) break;
        break;
      default:
        raise(`no method ${String(step["method"])}`);
    }
    say(step, "no error");
  } catch (error) {
    if (!(error instanceof gs.GpuShopperError)) throw error;
    const fields = error.violations.map((v) => v.field).join(",") || "-";
    const keys = Object.keys(error.metadata).sort().join(",") || "-";
    say(step, `${error.codeName} ${error.reason} fields=${fields} metadata=${keys} retryable=${error.retryable}`);
  }
}

async function createSession(step: Step): Promise<void> {
  const answer = await client.sessions.createSession(fromJson(gs.CreateSessionRequestSchema, filled(step["request"])));
  const session = answer.session ?? raise("no session in the answer");
  if (!known.some((k) => k.id === session.sessionId)) {
    known.push({ alias: String(step["as"]), id: session.sessionId, created: answer, token: answer.resumeToken, events: [] });
  }
  const hide = (step["hide"] ?? []) as string[];
  const parts: [string, string][] = [
    ["session", aliasOf(session.sessionId)],
    ["replayed", String(answer.replayed)],
    ["private_key", answer.sshPrivateKey === "" ? "no" : "yes"],
    ["key", session.spec?.sshPublicKey === scenario.public_key ? "own" : "server"],
    ["labels", labelsOf(session.labels)],
    ["reservation", String(session.spec?.reservation?.seconds ?? 0n)],
  ];
  say(step, parts.filter(([k]) => !hide.includes(k)).map(([k, v]) => `${k}=${v}`).join(" "));
}

async function watch(step: Step): Promise<void> {
  const session = byAlias(String(step["session"]));
  const show = step["show"] as string[];
  const disturb = [...((step["disturb"] ?? []) as { at: string; do: string }[])];
  const token = step["from"] === "create" ? session.created.resumeToken : session.token;
  let ended = true;
  for await (const message of client.watch(session.id, { resumeToken: token })) {
    session.token = message.resumeToken;
    if (message.kind !== "event") continue;
    const { event } = message;
    session.events.push(event);
    const at = `${typeName(event.type)} ${stateName(event.toState)}`;
    if (show.includes(typeName(event.type))) say(step, at);
    const due = disturb.findIndex((d) => d.at === at);
    if (due >= 0) await order(disturb.splice(due, 1)[0]?.do ?? "");
    if (stateName(event.toState) === step["until"]) {
      ended = false;
      break;
    }
  }
  if (ended) say(step, "ended");
  say(step, `gap_free=${session.events.every((e, i) => e.sequence === BigInt(i + 1))}`);
}

async function watchSessions(step: Step): Promise<void> {
  const show = step["show"] as string[];
  const from = String(step["from"]);
  let token = from === "snapshot" ? "" : (tokens.get(from) ?? raise(`no token ${from}`));
  let missing = Number(step["events"]);
  let complete = token !== "";
  if (complete && missing === 0) complete = false;
  const filter = fromJson(gs.SessionFilterSchema, filled(step["filter"]));
  for await (const message of client.watchAll(filter, { resumeToken: token })) {
    token = message.resumeToken || token;
    if (message.kind === "reset") {
      say(step, `reset ${message.reason}`);
      complete = false;
    } else if (message.kind === "snapshot") {
      const told = message.sessions.map((s) => `snapshot ${aliasOf(s.sessionId)} ${stateName(s.state)}`);
      told.sort().forEach((line) => say(step, line));
      say(step, `snapshot_end ${told.length}`);
      complete = true;
    } else if (message.kind === "event" && show.includes(typeName(message.event.type))) {
      say(step, `event ${aliasOf(message.event.sessionId)} ${typeName(message.event.type)} ${stateName(message.event.toState)}`);
      missing -= 1;
    }
    if (complete && missing <= 0) break;
  }
  if (typeof step["save_token"] === "string") tokens.set(step["save_token"], token);
}

async function play(step: Step): Promise<void> {
  const session = typeof step["session"] === "string" ? byAlias(step["session"]) : undefined;
  const sessionId = session?.id ?? "";
  switch (step.op) {
    case "money": {
      const values = (step["values"] as JsonValue[]).map((v) => fromJson(gs.MoneySchema, v));
      const parts = (money: gs.Money) => `${money.units}:${money.nanos}`;
      for (const value of values) say(step, `value ${gs.Usd.from(value)} ${parts(gs.Usd.from(value).toMoney())}`);
      say(step, `sum ${sum(values.map((v) => gs.Usd.from(v)))}`);
      for (const text of step["decimals"] as string[]) say(step, `money ${parts(gs.Usd.parse(text).toMoney())}`);
      for (const text of step["refused"] as string[]) {
        try {
          gs.Usd.parse(text).toMoney();
          say(step, "accepted");
        } catch {
          say(step, "refused");
        }
      }
      for (const value of step["foreign"] as JsonValue[]) {
        try {
          gs.Usd.from(fromJson(gs.MoneySchema, value));
          say(step, "accepted");
        } catch {
          say(step, "refused");
        }
      }
      return;
    }
    case "offers": {
      const page = await client.inventory.listOffers(fromJson(gs.ListOffersRequestSchema, filled(step["request"])));
      say(step, `total=${page.totalSize} offers=${page.offers.length}`);
      const price = (o: gs.Offer) => gs.Usd.from(o.price?.totalPerHour);
      for (const o of page.offers.slice(0, Number(step["show"]))) {
        say(step, `${o.provider} ${o.gpuModel} x${o.gpuCount} ${o.gpuMemoryMib} RENTAL_KIND_${gs.RentalKind[o.rentalKind]} ${price(o)}`);
      }
      say(step, `sum=${sum(page.offers.map(price))}`);
      return;
    }
    case "offers_paged": {
      const ids: string[] = [];
      for await (const offer of client.offers(fromJson(gs.ListOffersRequestSchema, filled(step["request"])))) ids.push(offer.offerId);
      say(step, `offers=${ids.length} distinct=${new Set(ids).size}`);
      return;
    }
    case "fails":
      return fails(step);
    case "create":
      return createSession(step);
    case "save_key": {
      const path = join(folder, `${session?.alias}.pem`);
      const key = session?.created.sshPrivateKey ?? "";
      await gs.saveKey(path, key);
      const mode = (statSync(path).mode & 0o7777).toString(8).padStart(4, "0");
      const again = await gs.saveKey(path, key).then(() => "overwritten", () => "refused");
      say(step, `mode=${mode} again=${again}`);
      return;
    }
    case "sessions": {
      const told: string[] = [];
      const filter = fromJson(gs.SessionFilterSchema, filled(step["filter"]));
      for await (const s of client.listSessions({ filter, pageSize: 1 })) {
        told.push(` ${aliasOf(s.sessionId)}${step["show_state"] ? `:${stateName(s.state)}` : ""}`);
      }
      say(step, `count=${told.length}${told.join("")}`);
      return;
    }
    case "watch":
      return watch(step);
    case "watch_sessions":
      return watchSessions(step);
    case "wait_running":
      try {
        const s = await client.waitForRunning(sessionId);
        const address = s.sshHost !== "" && s.sshPort !== 0 ? "yes" : "no";
        say(step, `${stateName(s.state)} ${s.provider} ${s.gpuModel} x${s.gpuCount} user=${s.sshUser} address=${address}`);
      } catch (error) {
        if (!(error instanceof gs.SessionEndedError)) throw error;
        say(step, `ended ${reasonName(error.session.endReason)}`);
      }
      return;
    case "wait_ended": {
      const s = await client.waitForEnd(sessionId);
      say(step, `${stateName(s.state)} ${reasonName(s.endReason)} cost_final=${s.costFinal}`);
      return;
    }
    case "extend": {
      const before = (await client.sessions.getSession({ sessionId })).session?.expireTime?.seconds ?? 0n;
      const extension = { case: "additionalDuration" as const, value: { seconds: BigInt(Number(step["by"])), nanos: 0 } };
      const answer = await client.sessions.extendSession({ sessionId, extension, requestId: String(step["request_id"]) });
      say(step, `by=${(answer.session?.expireTime?.seconds ?? 0n) - before} replayed=${answer.replayed}`);
      return;
    }
    case "update_labels": {
      const answer = await client.sessions.updateSession({ sessionId, labels: step["labels"] as Record<string, string> });
      say(step, `labels=${labelsOf(answer.session?.labels ?? {})}`);
      return;
    }
    case "complete":
    case "destroy": {
      const answer = step.op === "complete" ? await client.sessions.completeSession({ sessionId }) : await client.sessions.destroySession({ sessionId });
      say(step, `${stateName(answer.session?.state ?? 0)} ${reasonName(answer.session?.endReason ?? 0)}`);
      return;
    }
    case "events": {
      const told: string[] = [];
      const text = (e: gs.SessionEvent) => `${e.revision} ${e.sequence} ${e.type} ${e.toState}`;
      for await (const event of client.events(sessionId, Number(step["page_size"]))) told.push(text(event));
      say(step, `same_as_watched=${told.join() === session?.events.map(text).join()}`);
      return;
    }
    case "cost": {
      const answer = await client.costs.getSessionCost({ sessionId });
      const total = gs.Usd.from(answer.total?.cost);
      const addUp = (parts: { amount?: gs.CostAmount }[]) => sum(parts.map((p) => gs.Usd.from(p.amount?.cost))).equals(total);
      const bounds = gs.Usd.from(answer.total?.low).compare(total) <= 0 && total.compare(gs.Usd.from(answer.total?.high)) <= 0;
      say(
        step,
        `currency=${answer.total?.cost?.currencyCode} exact=${answer.total?.text === `$${total}`} components=${addUp(answer.components)} ` +
          `attempts=${addUp(answer.attempts)} bounds=${bounds} final=${answer.final}`,
      );
      return;
    }
    case "control":
      await order(String(step["do"]));
      say(step, "ok");
      return;
    default:
      raise(`no step ${step.op}`);
  }
}

for (const step of scenario.steps) await play(step);
client.close();

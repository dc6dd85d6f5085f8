// The client: the services of the contract with retries and typed errors, and what everybody needs on top of them. Knows no
// platform: what it calls through is a Connect transport, which index.ts (Node) and web.ts (browsers) make.
import { create, type DescMessage, type DescMethod, type DescService, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import { GpuShopperError, SessionEndedError } from "./errors.js";
import { CostService } from "./gen/gpushopper/v1/cost_service_pb.js";
import type { SessionEvent } from "./gen/gpushopper/v1/event_pb.js";
import { InventoryService, type ListOffersRequestSchema } from "./gen/gpushopper/v1/inventory_service_pb.js";
import type { Offer } from "./gen/gpushopper/v1/offer_pb.js";
import { OperatorService } from "./gen/gpushopper/v1/operator_service_pb.js";
import { type Session, type SessionFilter, SessionFilterSchema, Session_State } from "./gen/gpushopper/v1/session_pb.js";
import { type ListSessionsRequestSchema, SessionService } from "./gen/gpushopper/v1/session_service_pb.js";
import { insist, type Patience } from "./insist.js";
import { follow, isFinal, type WatchAllOptions, type WatchMessage, type WatchOptions } from "./watch.js";

/** Options of a client. */
export interface ClientOptions extends Patience {
  /** Sent with each call as `authorization: Bearer …`. */
  readonly token?: string;
}

/** How long to wait for something. */
export interface WaitOptions {
  /** Milliseconds; `Infinity` is no limit. Default: 30 minutes. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** A filter, or the fields of one. */
export type SessionFilterInit = MessageInitShape<typeof SessionFilterSchema>;

/** The names of methods that change nothing. */
const reads = /^(Get|List|Explain|Wait)/;

/** Whether a call may be repeated without harm: it only reads, or it carries a name that the server knows it by. */
export function isRepeatable(method: DescMethod): boolean {
  return reads.test(method.name) || method.input.field["requestId"] !== undefined;
}

/** Rents and follows machines. Make one with `connect`. */
export class GpuShopper {
  /** What can be rented. */
  readonly inventory: Client<typeof InventoryService>;
  /** Sessions. Changes get a `requestId` when they have none, and are repeated with it while the server is away. */
  readonly sessions: Client<typeof SessionService>;
  /** What they cost. */
  readonly costs: Client<typeof CostService>;
  /** What an operator looks at and orders. */
  readonly operator: Client<typeof OperatorService>;

  private readonly raw: Client<typeof SessionService>;
  private readonly closing = new AbortController();

  constructor(
    transport: Transport,
    private readonly options: ClientOptions = {},
    private readonly disconnect: () => void = () => {},
  ) {
    this.inventory = this.insisting(InventoryService, transport);
    this.sessions = this.insisting(SessionService, transport);
    this.costs = this.insisting(CostService, transport);
    this.operator = this.insisting(OperatorService, transport);
    this.raw = createClient(SessionService, transport);
  }

  /** Ends the connection, and every call and watch on it. */
  close(): void {
    this.closing.abort();
    this.disconnect();
  }

  /** All offers that match, page after page, best first. */
  async *offers(request: MessageInitShape<typeof ListOffersRequestSchema> = {}, options?: CallOptions): AsyncGenerator<Offer, void, undefined> {
    for await (const page of pages(this.inventory.listOffers, { pageSize: 1000, ...request }, options)) yield* page.offers;
  }

  /** All sessions that match, page after page, newest first. */
  async *listSessions(request: MessageInitShape<typeof ListSessionsRequestSchema> = {}, options?: CallOptions): AsyncGenerator<Session, void, undefined> {
    for await (const page of pages(this.sessions.listSessions, { pageSize: 1000, ...request }, options)) yield* page.sessions;
  }

  /** Everything that happened to a session, page after page, oldest first. */
  async *events(sessionId: string, pageSize = 1000, options?: CallOptions): AsyncGenerator<SessionEvent, void, undefined> {
    for await (const page of pages(this.sessions.listSessionEvents, { sessionId, pageSize }, options)) yield* page.events;
  }

  /**
   * Follows one session until it has ended: every event once and in order, across lost connections and restarts of the server.
   *
   * ```ts
   * for await (const message of client.watch(sessionId)) if (message.kind === "event") console.log(message.event.message);
   * ```
   */
  watch(sessionId: string, options: WatchOptions = {}): AsyncGenerator<WatchMessage, void, undefined> {
    const open = (token: string | undefined, bookmarkMs: number, signal: AbortSignal) =>
      this.raw.watchSession({ sessionId, start: after(token), bookmarkInterval: durationFromMs(bookmarkMs) }, { signal });
    const signal = this.signal(options.signal);
    const isOver = async () => isFinal((await this.sessions.getSession({ sessionId }, { signal })).session?.state ?? Session_State.UNSPECIFIED);
    return follow({ open, isOver, whole: true, patience: this.options }, { ...options, signal });
  }

  /** Follows all sessions that match. Ends only by its signal, or by leaving the loop. */
  watchAll(filter: SessionFilterInit = {}, options: WatchAllOptions = {}): AsyncGenerator<WatchMessage, void, undefined> {
    const since = options.endedSince === undefined || options.fromNow ? { case: undefined } : { case: "endedSince" as const, value: timestampFromDate(options.endedSince) };
    const open = (token: string | undefined, bookmarkMs: number, signal: AbortSignal) =>
      this.raw.watchSessions({ filter, start: token === undefined ? since : after(token), bookmarkInterval: durationFromMs(bookmarkMs) }, { signal });
    const { provider, states, labels }: SessionFilter = create(SessionFilterSchema, filter);
    const whole = provider === undefined && states.length === 0 && Object.keys(labels).length === 0;
    return follow({ open, whole, patience: this.options }, { ...options, signal: this.signal(options.signal) });
  }

  /** Waits until a session is RUNNING: verified and ready for login. Throws a {@link SessionEndedError} when it ends instead. */
  async waitForRunning(sessionId: string, options: WaitOptions = {}): Promise<Session> {
    const session = await this.waitFor(sessionId, [Session_State.RUNNING, Session_State.STOPPING], options);
    if (session.state !== Session_State.RUNNING) throw new SessionEndedError(session);
    return session;
  }

  /** Waits until a session is STOPPED or FAILED: every machine of it is proven gone. */
  waitForEnd(sessionId: string, options: WaitOptions = {}): Promise<Session> {
    return this.waitFor(sessionId, [Session_State.STOPPED, Session_State.FAILED], options);
  }

  private async waitFor(sessionId: string, until: Session_State[], options: WaitOptions): Promise<Session> {
    const timeoutMs = options.timeoutMs ?? 30 * 60_000;
    const end = Date.now() + timeoutMs;
    const signal = options.signal ? { signal: options.signal } : {};
    for (;;) {
      const left = Math.max(0, end - Date.now());
      const longPoll = Math.min(left, 30_000);
      const answer = await this.sessions.waitSession({ sessionId, until, timeout: durationFromMs(longPoll) }, { timeoutMs: left + 10_000, ...signal });
      if (answer.session && answer.reached) return answer.session;
      // Nothing follows these two, whatever was waited for.
      if (answer.session && isFinal(answer.session.state)) return answer.session;
      if (left === 0) throw GpuShopperError.timeout(`session ${sessionId} is not there after ${timeoutMs / 1000} s: it is ${Session_State[answer.session?.state ?? 0]}`);
    }
  }

  /** Says stop when the caller does, or when the client is closed. */
  private signal(caller: AbortSignal | undefined): AbortSignal {
    return caller ? AbortSignal.any([caller, this.closing.signal]) : this.closing.signal;
  }

  /** A client of a service whose unary calls are repeated where that is safe, and whose errors are typed. */
  private insisting<S extends DescService>(service: S, transport: Transport): Client<S> {
    const plain = createClient(service, transport) as Record<string, unknown>;
    const made: Record<string, unknown> = {};
    for (const method of service.methods) {
      const name = method.localName;
      made[name] =
        method.methodKind === "unary"
          ? (request: object, options: CallOptions = {}) => {
              const call = plain[name] as (request: object, options: CallOptions) => Promise<unknown>;
              const named = withRequestId(method.input, request);
              const patience = options.timeoutMs === undefined ? this.options : { ...this.options, timeoutMs: options.timeoutMs };
              const least = method.name === "WaitSession" ? { tryMs: 45_000 } : {};
              return insist((tryMs) => call(named, { ...options, timeoutMs: tryMs, signal: this.signal(options.signal) }), { ...patience, ...least }, isRepeatable(method), this.signal(options.signal));
            }
          : async function* (request: object, options: CallOptions = {}) {
              const call = plain[name] as (request: object, options: CallOptions) => AsyncIterable<unknown>;
              try {
                yield* call(request, options);
              } catch (error) {
                throw GpuShopperError.from(error);
              }
            };
    }
    return made as Client<S>;
  }
}

const after = (token: string | undefined) => (token === undefined ? { case: undefined } : { case: "resumeToken" as const, value: token });

/** The request with a name of its own, when it can have one and has none. */
function withRequestId(input: DescMessage, request: object): object {
  if (input.field["requestId"] === undefined || (request as { requestId?: string }).requestId) return request;
  return { ...request, requestId: uuid() };
}

/** A random UUID; also on pages that were not loaded by TLS, where `crypto.randomUUID` is missing. */
function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/**
 * The pages of any call that has some, fetched as they are asked for.
 *
 * ```ts
 * for await (const page of pages(client.costs.listLedgerEntries, { pageSize: 1000 })) console.log(page.entries.length);
 * ```
 */
export async function* pages<Q extends { pageToken?: string }, A extends { nextPageToken: string }>(
  call: (request: Q, options?: CallOptions) => Promise<A>,
  request: NoInfer<Q>,
  options?: CallOptions,
): AsyncGenerator<A, void, undefined> {
  let pageToken = request.pageToken ?? "";
  do {
    const page = await call({ ...request, pageToken }, options);
    yield page;
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}

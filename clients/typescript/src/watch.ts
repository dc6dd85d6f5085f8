// A watch that survives what happens to connections: it resumes after the last token it was given, proves by the numbers of
// the events that nothing is missing and nothing comes twice, and begins anew where the server no longer keeps what came after the token.
import { Code } from "@connectrpc/connect";
import { GpuShopperError } from "./errors.js";
import type { Bookmark, SessionEvent, SnapshotEnd } from "./gen/gpushopper/v1/event_pb.js";
import { type Session, Session_State } from "./gen/gpushopper/v1/session_pb.js";
import { type Patience, pause, stopped, waitBefore } from "./insist.js";

/** What a watch tells. */
export type WatchMessage =
  /** All sessions at the beginning; it is told once, when it is complete. */
  | { readonly kind: "snapshot"; readonly sessions: readonly Session[]; readonly end: SnapshotEnd; readonly resumeToken: string }
  /** Something happened. Each event comes once, in order. */
  | { readonly kind: "event"; readonly event: SessionEvent; readonly resumeToken: string }
  /** Nothing happened for a while. */
  | { readonly kind: "bookmark"; readonly bookmark: Bookmark; readonly resumeToken: string }
  /** The server no longer keeps what came after the last token: a fresh snapshot follows, and what happened between may be missing. */
  | { readonly kind: "reset"; readonly reason: "WATCH_COMPACTED" | "WATCH_STORE_REPLACED"; readonly resumeToken: "" };

/** Where and how to watch. */
export interface WatchOptions {
  /** Strictly after this token, of an earlier message or a create answer; empty is none. It goes before `fromNow` and `endedSince`. */
  readonly resumeToken?: string;
  /** Begin with what happens next, and tell no snapshot. Default: false. */
  readonly fromNow?: boolean;
  /** A bookmark after this much silence, 5 000 to 60 000 milliseconds. Default: 15 000. Twice as much silence, and 5 000 more, is a lost connection. */
  readonly bookmarkMs?: number;
  /** Ends the watch. */
  readonly signal?: AbortSignal;
  /** How long the server may be away before the watch gives up, milliseconds. Default: forever. */
  readonly giveUpMs?: number;
  /** Is told why each further stream is opened, and how long the wait before it is. */
  readonly onLost?: (error: GpuShopperError, waitMs: number) => void;
}

/** Where and how to watch many sessions. */
export interface WatchAllOptions extends WatchOptions {
  /** The snapshot has sessions too that ended since then. Default: open ones only. */
  readonly endedSince?: Date;
}

/** A message of either kind of watch, as it came. */
export interface Heard {
  readonly message:
    | { case: "snapshot"; value: Session }
    | { case: "snapshotEnd"; value: SnapshotEnd }
    | { case: "event"; value: SessionEvent }
    | { case: "bookmark"; value: Bookmark }
    | { case: undefined; value?: undefined };
  readonly resumeToken: string;
}

export interface Source {
  /** Opens a stream after the token, or with a snapshot without one. */
  readonly open: (resumeToken: string | undefined, bookmarkMs: number, signal: AbortSignal) => AsyncIterable<Heard>;
  /** One session: the stream ends by itself after its end, and this says whether that has come. Absent for many, whose streams never should. */
  readonly isOver?: () => Promise<boolean>;
  /** No session can leave and come back, so that the numbers of its events are without gaps. */
  readonly whole: boolean;
  readonly patience: Patience;
}

export const isFinal = (state: Session_State) => state === Session_State.STOPPED || state === Session_State.FAILED;

/** Numbers of what was told, to see repeats and gaps. */
class Ledger {
  private revision = 0n;
  private readonly sequences = new Map<string, bigint>();

  constructor(private readonly whole: boolean) {}

  forget(): void {
    this.revision = 0n;
    this.sequences.clear();
  }

  snapshot(session: Session): void {
    this.sequences.set(session.sessionId, session.sequence);
  }

  reached(revision: bigint): void {
    if (revision > this.revision) this.revision = revision;
  }

  /** What to make of an event. */
  judge(event: SessionEvent): "next" | "repeat" | "gap" {
    const last = this.sequences.get(event.sessionId);
    if (event.revision <= this.revision || (last !== undefined && event.sequence <= last)) return "repeat";
    if (this.whole && last !== undefined && event.sequence !== last + 1n) return "gap";
    return "next";
  }

  told(event: SessionEvent): void {
    this.reached(event.revision);
    // After its end almost nothing follows: it need not be remembered for that.
    if (isFinal(event.toState)) this.sequences.delete(event.sessionId);
    else this.sequences.set(event.sessionId, event.sequence);
  }
}

/** Streams that are opened in a row after one was lost on which the session's end was told already. */
const MOST_AFTER_END = 3;

/** Whether a further stream may help: the connection broke, the server is away, or it asks to come back later. */
const resumable = (error: GpuShopperError) => error.transient || (error.code === Code.ResourceExhausted && error.retryAfterMs !== undefined);

/** Follows a source as long as it goes on. */
export async function* follow(source: Source, options: WatchOptions = {}): AsyncGenerator<WatchMessage, void, undefined> {
  const bookmarkMs = options.bookmarkMs ?? 15_000;
  const ledger = new Ledger(source.whole);
  let token = options.resumeToken || undefined;
  // "From now" begins with a snapshot that is not told: the server would say nothing, and so give no token, before the first event.
  let hideSnapshot = options.fromNow === true && token === undefined;
  let tries = 0;
  let ended = false;
  let gaps = 0;
  let lastWord = Date.now();
  // Only a session's own watch ends by itself: after its end.
  const over = () => source.isOver !== undefined && ended;
  for (;;) {
    if (options.signal?.aborted) return;
    const stop = new AbortController();
    const stopIt = () => stop.abort(options.signal?.reason);
    options.signal?.addEventListener("abort", stopIt, { once: true });
    let error: GpuShopperError;
    try {
      // Held back until it is complete: a connection lost on the way leaves no half of a snapshot behind.
      let snapshot: Session[] = [];
      let gap = false;
      let silent = true;
      for await (const heard of unlessSilent(source.open(token, bookmarkMs, stop.signal), 2 * bookmarkMs + 5_000, stop)) {
        silent = false;
        lastWord = Date.now();
        const { message } = heard;
        if (message.case === "snapshot") {
          snapshot.push(message.value);
          continue;
        }
        if (message.case === "event") {
          const verdict = ledger.judge(message.value);
          if (verdict === "gap") {
            gap = true;
            break;
          }
          if (verdict === "repeat") continue;
          ledger.told(message.value);
          ended = isFinal(message.value.toState);
          gaps = tries = 0;
        }
        const resumeToken = heard.resumeToken || token || "";
        token = resumeToken || undefined;
        if (message.case === "event") {
          yield { kind: "event", event: message.value, resumeToken };
        } else if (message.case === "bookmark") {
          tries = 0;
          ledger.reached(message.value.revision);
          yield { kind: "bookmark", bookmark: message.value, resumeToken };
        } else if (message.case === "snapshotEnd") {
          snapshot.forEach((session) => ledger.snapshot(session));
          ledger.reached(message.value.revision);
          const sessions = snapshot;
          snapshot = [];
          ended = sessions.some((session) => isFinal(session.state));
          if (!hideSnapshot) yield { kind: "snapshot", sessions, end: message.value, resumeToken };
          hideSnapshot = false;
        }
      }
      // Where the end was told before the token, nothing tells it again, so it is asked for.
      if (!gap && (over() || (silent && token !== undefined && (await source.isOver?.())))) return;
      if (gap && ++gaps > 3) {
        throw new GpuShopperError(Code.DataLoss, "events are missing from the stream, also after it was resumed", { reason: "WATCH_GAP" });
      }
      error = new GpuShopperError(Code.Unavailable, gap ? "an event is missing from the stream" : "the server ended the stream early");
    } catch (thrown) {
      if (options.signal?.aborted) return;
      error = GpuShopperError.from(thrown);
      if (over() && !resumable(error)) return;
      if (token !== undefined && (error.reason === "WATCH_COMPACTED" || error.reason === "WATCH_STORE_REPLACED")) {
        token = undefined;
        ledger.forget();
        yield { kind: "reset", reason: error.reason, resumeToken: "" };
      } else if (!resumable(error)) {
        throw error;
      }
    } finally {
      options.signal?.removeEventListener("abort", stopIt);
      stop.abort();
    }
    const wait = waitBefore(tries++, source.patience, error.retryAfterMs);
    const givenUp = options.giveUpMs !== undefined && Date.now() + wait - lastWord > options.giveUpMs;
    // What may still follow a session's end is not worth waiting for a server that has gone for good.
    if (over() && (givenUp || tries > MOST_AFTER_END)) return;
    if (givenUp) throw error;
    options.onLost?.(error, wait);
    try {
      await pause(wait, options.signal);
    } catch {
      return;
    }
  }
}

/** Passes a stream on, and fails when it is silent for longer: the server promises a bookmark. */
async function* unlessSilent<T>(stream: AsyncIterable<T>, limitMs: number, stop: AbortController): AsyncGenerator<T, void, undefined> {
  const iterator = stream[Symbol.asyncIterator]();
  let fail: (error: GpuShopperError) => void = () => {};
  const onAbort = () => fail(stopped(stop.signal));
  stop.signal.addEventListener("abort", onAbort, { once: true });
  try {
    for (;;) {
      const result = await new Promise<IteratorResult<T>>((resolve, reject) => {
        const silent = () => reject(new GpuShopperError(Code.Unavailable, `not a word for ${limitMs / 1000} s: the connection is lost`));
        const timer = setTimeout(silent, limitMs);
        const settled = <A>(then: (argument: A) => void) => (argument: A) => {
          clearTimeout(timer);
          then(argument);
        };
        fail = settled(reject);
        iterator.next().then(settled(resolve), settled(reject));
      });
      if (result.done) return;
      yield result.value;
    }
  } finally {
    stop.signal.removeEventListener("abort", onAbort);
    stop.abort();
  }
}

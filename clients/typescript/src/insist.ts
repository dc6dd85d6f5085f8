// Trying again: what is safe to repeat is repeated while the server is away, within a time.
import { Code } from "@connectrpc/connect";
import { GpuShopperError } from "./errors.js";

/** How long to wait between tries, and how long to go on. */
export interface Patience {
  /** The whole call with all its tries, milliseconds. Default: 60 000. */
  readonly timeoutMs?: number;
  /** One try, milliseconds. Default: 20 000. */
  readonly tryMs?: number;
  /** About the first wait, milliseconds; it doubles from try to try. Default: 200. */
  readonly firstWaitMs?: number;
  /** The longest wait of our own, milliseconds; what the server asks for is waited in full. Default: 10 000. */
  readonly longestWaitMs?: number;
}

export const PATIENCE = { timeoutMs: 60_000, tryMs: 20_000, firstWaitMs: 200, longestWaitMs: 10_000 } as const;

/** How long to wait before the next try: doubled from try to try, half of it by chance, and not less than the server asks for. */
export function waitBefore(tries: number, patience: Patience, askedMs = 0): number {
  const most = Math.min(patience.longestWaitMs ?? PATIENCE.longestWaitMs, (patience.firstWaitMs ?? PATIENCE.firstWaitMs) * 2 ** Math.min(tries, 30));
  return Math.max(askedMs, (most / 2) * (1 + Math.random()));
}

/** Waits; rejects at once when the signal says stop. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(stopped(signal));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** What is thrown when the caller's own signal says stop. */
export function stopped(signal?: AbortSignal): GpuShopperError {
  return new GpuShopperError(Code.Canceled, "the call was given up by its caller", { cause: signal?.reason });
}

/** Calls, and again while that is safe and may help. `call` is told how long it may take. */
export async function insist<T>(call: (tryMs: number) => Promise<T>, patience: Patience, repeatable: boolean, signal?: AbortSignal): Promise<T> {
  const end = Date.now() + (patience.timeoutMs ?? PATIENCE.timeoutMs);
  for (let tries = 0; ; tries++) {
    try {
      return await call(Math.max(1, Math.min(patience.tryMs ?? PATIENCE.tryMs, end - Date.now())));
    } catch (thrown) {
      if (signal?.aborted) throw stopped(signal);
      const error = GpuShopperError.from(thrown);
      const wait = waitBefore(tries, patience, error.retryAfterMs);
      if (!repeatable || !error.transient || Date.now() + wait >= end) throw error;
      await pause(wait, signal);
    }
  }
}

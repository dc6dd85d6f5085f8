// What the server refuses, read from the details of its status.
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { EndReason, type Session } from "./gen/gpushopper/v1/session_pb.js";

/** One field of a request that is wrong. */
export interface FieldViolation {
  /** Its path as in the proto: `requirements.filter.min_cuda`. */
  readonly field: string;
  /** What is wrong with which value, and what is allowed. */
  readonly description: string;
}

/** What is known about an error beside its message. */
export interface ErrorParts {
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** A call that failed: the gRPC code, and what the server told in its details. */
export class GpuShopperError extends Error {
  override readonly name: string = "GpuShopperError";
  /** The stable reason, such as `NO_CAPACITY`; empty when the error does not come from the server itself (a lost connection, a proxy). */
  readonly reason: string;
  /** The variable parts of the message. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Every wrong field of the request. */
  readonly violations: readonly FieldViolation[];
  /** How long the server asks to wait before the next try, milliseconds. */
  readonly retryAfterMs: number | undefined;

  constructor(
    readonly code: Code,
    message: string,
    parts: ErrorParts = {},
  ) {
    super(message, "cause" in parts ? { cause: parts.cause } : undefined);
    this.reason = parts.reason ?? "";
    this.metadata = parts.metadata ?? {};
    this.violations = parts.violations ?? [];
    this.retryAfterMs = parts.retryAfterMs;
  }

  /** Reads whatever was thrown. */
  static from(thrown: unknown): GpuShopperError {
    if (thrown instanceof GpuShopperError) return thrown;
    const error = ConnectError.from(thrown);
    const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "gpushopper");
    const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
    return new GpuShopperError(error.code, error.rawMessage, {
      reason: info?.reason ?? "",
      metadata: info?.metadata ?? {},
      violations: error.findDetails(BadRequestSchema).flatMap((b) => b.fieldViolations.map(({ field, description }) => ({ field, description }))),
      retryAfterMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
      cause: thrown,
    });
  }

  /** The time that the caller gave is over. */
  static timeout(message: string): GpuShopperError {
    return new GpuShopperError(Code.DeadlineExceeded, message);
  }

  /** The gRPC code in capitals: `NOT_FOUND`. */
  get codeName(): string {
    return (Code[this.code] ?? "Unknown").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  }

  /** The server invites to try again. Calls and watches of this client have already tried until their time was up. */
  get retryable(): boolean {
    return this.code === Code.Unavailable;
  }

  /**
   * The call may have failed between here and the server: every error of the server's own has a reason. Repeating a call
   * that carries a request id, or one that only reads, is then safe.
   */
  get transient(): boolean {
    const between = [Code.Unknown, Code.Internal, Code.Aborted, Code.Canceled, Code.DeadlineExceeded, Code.DataLoss];
    return this.retryable || (this.reason === "" && between.includes(this.code));
  }
}

/** A session that was waited for has ended, or is ending, and will not be what was waited for. */
export class SessionEndedError extends GpuShopperError {
  override readonly name = "SessionEndedError";

  constructor(
    /** The session as it is. */
    readonly session: Session,
  ) {
    const why = session.error || session.statusMessage;
    super(Code.FailedPrecondition, `session ${session.sessionId} has ended: ${EndReason[session.endReason]}${why && `: ${why}`}`, { reason: "SESSION_ENDED" });
  }
}

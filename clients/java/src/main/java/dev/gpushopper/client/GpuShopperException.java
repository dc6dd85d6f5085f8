package dev.gpushopper.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/** A call or a watch that failed: the gRPC code, and what the server told in its details. */
public class GpuShopperException extends RuntimeException {
    private static final long serialVersionUID = 1L;
    private static final String DOMAIN = "gpushopper";

    private final Status.Code code;
    private final String reason;
    private final transient Map<String, String> metadata;
    private final transient List<Violation> violations;
    private final Duration retryAfter;

    /**
     * One field of a request that is wrong.
     *
     * @param field its path as in the proto: {@code requirements.filter.min_cuda}
     * @param description what is wrong with which value, and what is allowed
     */
    public record Violation(String field, String description) {}

    GpuShopperException(Status.Code code, String reason, String message) {
        super(message);
        this.code = code;
        this.reason = reason;
        this.metadata = Map.of();
        this.violations = List.of();
        this.retryAfter = null;
    }

    private GpuShopperException(Throwable cause) {
        super(message(cause), cause);
        this.code = Status.fromThrowable(cause).getCode();
        String reason = "";
        Map<String, String> metadata = new TreeMap<>();
        List<Violation> violations = new ArrayList<>();
        Duration retryAfter = null;
        com.google.rpc.Status status = StatusProto.fromThrowable(cause);
        for (Any detail : status == null ? List.<Any>of() : status.getDetailsList()) {
            try {
                if (detail.is(ErrorInfo.class)) {
                    ErrorInfo info = detail.unpack(ErrorInfo.class);
                    if (info.getDomain().equals(DOMAIN)) {
                        reason = info.getReason();
                        metadata.putAll(info.getMetadataMap());
                    }
                } else if (detail.is(BadRequest.class)) {
                    detail.unpack(BadRequest.class).getFieldViolationsList()
                            .forEach(v -> violations.add(new Violation(v.getField(), v.getDescription())));
                } else if (detail.is(RetryInfo.class)) {
                    com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                }
            } catch (InvalidProtocolBufferException unreadable) {
                // What can't be read says nothing; code and message stand.
                addSuppressed(unreadable);
            }
        }
        this.reason = reason;
        this.metadata = Collections.unmodifiableMap(metadata);
        this.violations = List.copyOf(violations);
        this.retryAfter = retryAfter;
    }

    /** Reads whatever a stub has thrown. */
    public static GpuShopperException of(Throwable thrown) {
        return thrown instanceof GpuShopperException read ? read : new GpuShopperException(thrown);
    }

    private static String message(Throwable cause) {
        Status status = Status.fromThrowable(cause);
        return status.getDescription() == null ? status.getCode() + (status.getCause() == null ? "" : ": " + status.getCause()) : status.getDescription();
    }

    /** The gRPC code. */
    public Status.Code code() {
        return code;
    }

    /** The stable reason, such as {@code NO_CAPACITY}; empty when the error does not come from the server itself (a lost connection, a proxy). */
    public String reason() {
        return reason;
    }

    /** The variable parts of the message. */
    public Map<String, String> metadata() {
        return metadata == null ? Map.of() : metadata;
    }

    /** Every wrong field of the request. */
    public List<Violation> violations() {
        return violations == null ? List.of() : violations;
    }

    /** How long the server asks to wait before the next try. */
    public Optional<Duration> retryAfter() {
        return Optional.ofNullable(retryAfter);
    }

    /** The server invites to try again. Calls and watches of this client have already tried until their time was up. */
    public boolean isRetryable() {
        return code == Status.Code.UNAVAILABLE;
    }

    /**
     * It may have failed between here and the server: every error of the server's own has a reason. Repeating a call that carries a
     * request id, or one that only reads, is then safe.
     */
    public boolean isTransient() {
        return switch (code) {
            case UNAVAILABLE -> true;
            case UNKNOWN, INTERNAL, ABORTED, CANCELLED, DEADLINE_EXCEEDED, DATA_LOSS -> reason.isEmpty();
            default -> false;
        };
    }
}

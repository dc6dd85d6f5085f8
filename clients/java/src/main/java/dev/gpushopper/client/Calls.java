package dev.gpushopper.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/** Calls that are repeated while the server is away, where that is safe. */
final class Calls {
    private static final Pattern READS = Pattern.compile("(Get|List|Explain|Wait)\\w*");

    final ManagedChannel channel;
    final Patience patience;

    Calls(ManagedChannel channel, Patience patience) {
        this.channel = channel;
        this.patience = patience;
    }

    <Q extends Message, A> A unary(MethodDescriptor<Q, A> method, Q request) {
        return unary(method, request, patience);
    }

    <Q extends Message, A> A unary(MethodDescriptor<Q, A> method, Q request, Patience patience) {
        Q named = named(request);
        boolean repeatable = isRepeatable(method, request);
        long end = System.nanoTime() + patience.timeout().toNanos();
        for (int tries = 0; ; tries++) {
            long limit = Math.min(patience.oneTry().toNanos(), end - System.nanoTime());
            GpuShopperException error;
            try {
                return ClientCalls.blockingUnaryCall(channel, method, CallOptions.DEFAULT.withDeadlineAfter(limit, TimeUnit.NANOSECONDS), named);
            } catch (RuntimeException thrown) {
                error = GpuShopperException.of(thrown);
            }
            if (Thread.currentThread().isInterrupted() || channel.isShutdown() || !repeatable || !error.isTransient()) {
                throw error;
            }
            Duration wait = patience.waitBefore(tries, error.retryAfter().orElse(null));
            if (System.nanoTime() + wait.toNanos() >= end) {
                throw error;
            }
            pause(wait);
            // The channel has a patience of its own, which grows to minutes.
            channel.resetConnectBackoff();
        }
    }

    static void pause(Duration wait) {
        try {
            Thread.sleep(wait.toMillis());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw interrupted();
        }
    }

    static GpuShopperException interrupted() {
        return new GpuShopperException(Status.Code.CANCELLED, "", "the call was interrupted by its caller");
    }

    /** The request with a name of its own, when it can have one and has none. */
    @SuppressWarnings("unchecked")
    static <Q extends Message> Q named(Q request) {
        FieldDescriptor id = request.getDescriptorForType().findFieldByName("request_id");
        if (id == null || !((String) request.getField(id)).isEmpty()) {
            return request;
        }
        return (Q) request.toBuilder().setField(id, UUID.randomUUID().toString()).build();
    }

    /** Whether a call may be repeated without harm: it only reads, or it carries a name that the server knows it by. */
    static boolean isRepeatable(MethodDescriptor<?, ?> method, Message request) {
        String name = method.getBareMethodName();
        return request.getDescriptorForType().findFieldByName("request_id") != null || (name != null && READS.matcher(name).matches());
    }
}

package dev.gpushopper.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Duration;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import com.google.type.Money;
import dev.gpushopper.v1.CompleteSessionRequest;
import dev.gpushopper.v1.CostAmount;
import dev.gpushopper.v1.CreateSessionRequest;
import dev.gpushopper.v1.CreateSessionResponse;
import dev.gpushopper.v1.DestroySessionRequest;
import dev.gpushopper.v1.ExtendSessionRequest;
import dev.gpushopper.v1.ExtendSessionResponse;
import dev.gpushopper.v1.GetOfferRequest;
import dev.gpushopper.v1.GetSessionCostRequest;
import dev.gpushopper.v1.GetSessionCostResponse;
import dev.gpushopper.v1.GetSessionRequest;
import dev.gpushopper.v1.ListOffersRequest;
import dev.gpushopper.v1.ListOffersResponse;
import dev.gpushopper.v1.ListSessionsRequest;
import dev.gpushopper.v1.Offer;
import dev.gpushopper.v1.Session;
import dev.gpushopper.v1.SessionEvent;
import dev.gpushopper.v1.SessionFilter;
import dev.gpushopper.v1.UpdateSessionRequest;
import dev.gpushopper.v1.WatchSessionRequest;
import java.io.IOException;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** Plays the conformance scenario by way of the client and prints the transcript: see {@code clients/conformance/SPEC.md}. */
public final class Conformance {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private static final class Known {
        final String alias;
        final String id;
        final CreateSessionResponse created;
        final List<SessionEvent> events = new ArrayList<>();
        String token;

        Known(String alias, CreateSessionResponse created) {
            this.alias = alias;
            this.created = created;
            this.id = created.getSession().getSessionId();
            this.token = created.getResumeToken();
        }
    }

    private final String publicKey;
    private final GpuShopper client = GpuShopper.connect(System.getenv("GPU_SHOPPER_URL"));
    private final HttpClient http = HttpClient.newHttpClient();
    private final List<Known> known = new ArrayList<>();
    private final Map<String, String> tokens = new HashMap<>();

    private Conformance(String publicKey) {
        this.publicKey = publicKey;
    }

    public static void main(String[] arguments) throws Exception {
        JsonObject scenario = JsonParser.parseString(Files.readString(Path.of(arguments[0]))).getAsJsonObject();
        Conformance player = new Conformance(scenario.get("public_key").getAsString());
        for (JsonElement step : scenario.getAsJsonArray("steps")) {
            player.play(step.getAsJsonObject());
        }
        player.client.close();
    }

    private static void say(JsonObject step, String text) {
        OUT.print(step.get("id").getAsString() + ": " + text + "\n");
    }

    private static String text(JsonObject step, String key) {
        return step.has(key) ? step.get(key).getAsString() : "";
    }

    private static List<String> list(JsonObject step, String key) {
        JsonArray all = step.has(key) ? step.getAsJsonArray(key) : new JsonArray();
        return StreamSupport.stream(all.spliterator(), false).map(JsonElement::getAsString).toList();
    }

    private static String labels(Map<String, String> labels) {
        return labels.isEmpty() ? "-" : new TreeMap<>(labels).entrySet().stream().map(e -> e.getKey() + "=" + e.getValue()).collect(Collectors.joining(","));
    }

    private static String joined(Stream<String> all) {
        String joined = all.collect(Collectors.joining(","));
        return joined.isEmpty() ? "-" : joined;
    }

    private static String parts(Money money) {
        return money.getUnits() + ":" + money.getNanos();
    }

    private static String plain(BigDecimal amount) {
        return amount.signum() == 0 ? "0" : amount.stripTrailingZeros().toPlainString();
    }

    private static BigDecimal sum(Stream<BigDecimal> amounts) {
        return amounts.reduce(BigDecimal.ZERO, BigDecimal::add);
    }

    private Known byAlias(String alias) {
        return known.stream().filter(k -> k.alias.equals(alias)).findFirst().orElseThrow();
    }

    private String aliasOf(String id) {
        return known.stream().filter(k -> k.id.equals(id)).findFirst().orElseThrow().alias;
    }

    /** The proto's JSON under a key of the step, with its texts filled in, as a message. */
    @SuppressWarnings("unchecked")
    private <M extends Message> M read(JsonElement json, M.Builder builder) throws IOException {
        String filled = json == null ? "{}" : json.toString().replace("${public_key}", publicKey);
        for (Known k : known) {
            filled = filled.replace("${session:" + k.alias + "}", k.id);
        }
        JsonFormat.parser().merge(filled, builder);
        return (M) builder.build();
    }

    private void order(String what) throws IOException, InterruptedException {
        URI address = URI.create(System.getenv("CONFORMANCE_CONTROL") + "/" + what);
        HttpRequest request = HttpRequest.newBuilder(address).POST(HttpRequest.BodyPublishers.noBody()).build();
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IllegalStateException(what + ": " + answer.body());
        }
    }

    private void fails(JsonObject step) throws IOException {
        JsonElement request = step.get("request");
        try {
            switch (text(step, "method")) {
                case "GetOffer" -> client.inventory().getOffer(this.<GetOfferRequest>read(request, GetOfferRequest.newBuilder()));
                case "GetSession" -> client.sessions().getSession(this.<GetSessionRequest>read(request, GetSessionRequest.newBuilder()));
                case "CreateSession" -> client.sessions().createSession(this.<CreateSessionRequest>read(request, CreateSessionRequest.newBuilder()));
                case "ExtendSession" -> client.sessions().extendSession(this.<ExtendSessionRequest>read(request, ExtendSessionRequest.newBuilder()));
                case "GetSessionCost" -> client.costs().getSessionCost(this.<GetSessionCostRequest>read(request, GetSessionCostRequest.newBuilder()));
                case "WatchSession" -> {
                    WatchSessionRequest asked = read(request, WatchSessionRequest.newBuilder());
                    try (Watch watch = client.watch(asked.getSessionId())) {
                        watch.hasNext();
                    }
                }
                default -> throw new IllegalStateException("no method " + text(step, "method"));
            }
            say(step, "no error");
        } catch (GpuShopperException error) {
            String fields = joined(error.violations().stream().map(GpuShopperException.Violation::field));
            String keys = joined(error.metadata().keySet().stream().sorted());
            say(step, error.code() + " " + error.reason() + " fields=" + fields + " metadata=" + keys + " retryable=" + error.isRetryable());
        }
    }

    private void create(JsonObject step) throws IOException {
        CreateSessionResponse answer = client.sessions().createSession(this.<CreateSessionRequest>read(step.get("request"), CreateSessionRequest.newBuilder()));
        Session session = answer.getSession();
        if (known.stream().noneMatch(k -> k.id.equals(session.getSessionId()))) {
            known.add(new Known(text(step, "as"), answer));
        }
        List<String> hide = list(step, "hide");
        String[][] all = {
            {"session", aliasOf(session.getSessionId())},
            {"replayed", String.valueOf(answer.getReplayed())},
            {"private_key", answer.getSshPrivateKey().isEmpty() ? "no" : "yes"},
            {"key", session.getSpec().getSshPublicKey().equals(publicKey) ? "own" : "server"},
            {"labels", labels(session.getLabelsMap())},
            {"reservation", String.valueOf(session.getSpec().getReservation().getSeconds())},
        };
        say(step, Stream.of(all).filter(p -> !hide.contains(p[0])).map(p -> p[0] + "=" + p[1]).collect(Collectors.joining(" ")));
    }

    private void watch(JsonObject step) throws IOException, InterruptedException {
        Known session = byAlias(text(step, "session"));
        List<String> show = list(step, "show");
        List<JsonObject> disturb = new ArrayList<>();
        if (step.has("disturb")) {
            step.getAsJsonArray("disturb").forEach(d -> disturb.add(d.getAsJsonObject()));
        }
        String token = text(step, "from").equals("create") ? session.created.getResumeToken() : session.token;
        boolean ended = true;
        try (Watch watch = client.watch(session.id, WatchOptions.DEFAULT.after(token))) {
            for (WatchMessage message : watch) {
                session.token = message.resumeToken();
                if (!(message instanceof WatchMessage.Event told)) {
                    continue;
                }
                SessionEvent event = told.event();
                session.events.add(event);
                String at = event.getType() + " " + event.getToState();
                if (show.contains(event.getType().toString())) {
                    say(step, at);
                }
                JsonObject due = disturb.stream().filter(d -> text(d, "at").equals(at)).findFirst().orElse(null);
                if (due != null) {
                    disturb.remove(due);
                    order(text(due, "do"));
                }
                if (event.getToState().toString().equals(text(step, "until"))) {
                    ended = false;
                    break;
                }
            }
        }
        if (ended) {
            say(step, "ended");
        }
        boolean gapFree = true;
        for (int i = 0; i < session.events.size(); i++) {
            gapFree &= session.events.get(i).getSequence() == i + 1;
        }
        say(step, "gap_free=" + gapFree);
    }

    private void watchSessions(JsonObject step) throws IOException {
        List<String> show = list(step, "show");
        int missing = step.get("events").getAsInt();
        String from = text(step, "from");
        String token = from.equals("snapshot") ? "" : tokens.get(from);
        // Without events to come, one that resumes waits for the snapshot that it is made to take.
        boolean complete = !token.isEmpty() && missing > 0;
        try (Watch watch = client.watchAll(read(step.get("filter"), SessionFilter.newBuilder()), WatchOptions.DEFAULT.after(token))) {
            while (!complete || missing > 0) {
                WatchMessage message = watch.next();
                if (message instanceof WatchMessage.Reset reset) {
                    say(step, "reset " + reset.reason());
                    complete = false;
                } else if (message instanceof WatchMessage.Snapshot snapshot) {
                    snapshot.sessions().stream().map(s -> "snapshot " + aliasOf(s.getSessionId()) + " " + s.getState()).sorted().forEach(l -> say(step, l));
                    say(step, "snapshot_end " + snapshot.sessions().size());
                    complete = true;
                } else if (message instanceof WatchMessage.Event told && show.contains(told.event().getType().toString())) {
                    say(step, "event " + aliasOf(told.event().getSessionId()) + " " + told.event().getType() + " " + told.event().getToState());
                    missing--;
                }
            }
            if (step.has("save_token")) {
                tokens.put(text(step, "save_token"), watch.resumeToken());
            }
        }
    }

    private void money(JsonObject step) throws IOException {
        List<BigDecimal> amounts = new ArrayList<>();
        for (JsonElement value : step.getAsJsonArray("values")) {
            BigDecimal amount = Usd.decimal(this.<Money>read(value, Money.newBuilder()));
            amounts.add(amount);
            say(step, "value " + plain(amount) + " " + parts(Usd.money(amount)));
        }
        say(step, "sum " + plain(sum(amounts.stream())));
        for (String decimal : list(step, "decimals")) {
            say(step, "money " + parts(Usd.money(decimal)));
        }
        for (String refused : list(step, "refused")) {
            try {
                Usd.money(refused);
                say(step, "accepted");
            } catch (IllegalArgumentException expected) {
                say(step, "refused");
            }
        }
        for (JsonElement foreign : step.getAsJsonArray("foreign")) {
            Money money = read(foreign, Money.newBuilder());
            try {
                Usd.decimal(money);
                say(step, "accepted");
            } catch (IllegalArgumentException expected) {
                say(step, "refused");
            }
        }
    }

    private void offers(JsonObject step) throws IOException {
        ListOffersResponse page = client.inventory().listOffers(this.<ListOffersRequest>read(step.get("request"), ListOffersRequest.newBuilder()));
        say(step, "total=" + page.getTotalSize() + " offers=" + page.getOffersCount());
        for (Offer o : page.getOffersList().subList(0, step.get("show").getAsInt())) {
            String price = plain(Usd.decimal(o.getPrice().getTotalPerHour()));
            say(step, o.getProvider() + " " + o.getGpuModel() + " x" + o.getGpuCount() + " " + o.getGpuMemoryMib() + " " + o.getRentalKind() + " " + price);
        }
        say(step, "sum=" + plain(sum(page.getOffersList().stream().map(o -> Usd.decimal(o.getPrice().getTotalPerHour())))));
    }

    private void cost(JsonObject step, String id) {
        GetSessionCostResponse answer = client.costs().getSessionCost(GetSessionCostRequest.newBuilder().setSessionId(id).build());
        CostAmount total = answer.getTotal();
        BigDecimal amount = Usd.decimal(total.getCost());
        boolean exact = total.getText().equals("$" + plain(amount));
        boolean components = sum(answer.getComponentsList().stream().map(c -> Usd.decimal(c.getAmount().getCost()))).compareTo(amount) == 0;
        boolean attempts = sum(answer.getAttemptsList().stream().map(a -> Usd.decimal(a.getAmount().getCost()))).compareTo(amount) == 0;
        boolean bounds = Usd.decimal(total.getLow()).compareTo(amount) <= 0 && amount.compareTo(Usd.decimal(total.getHigh())) <= 0;
        say(step, "currency=" + total.getCost().getCurrencyCode() + " exact=" + exact + " components=" + components + " attempts=" + attempts
                + " bounds=" + bounds + " final=" + answer.getFinal());
    }

    private void play(JsonObject step) throws IOException, InterruptedException {
        Known session = step.has("session") ? byAlias(text(step, "session")) : null;
        String id = session == null ? "" : session.id;
        switch (text(step, "op")) {
            case "money" -> money(step);
            case "offers" -> offers(step);
            case "offers_paged" -> {
                ListOffersRequest request = read(step.get("request"), ListOffersRequest.newBuilder());
                List<String> ids = client.offers(request).stream().map(Offer::getOfferId).toList();
                Set<String> distinct = new HashSet<>(ids);
                say(step, "offers=" + ids.size() + " distinct=" + distinct.size());
            }
            case "fails" -> fails(step);
            case "create" -> create(step);
            case "save_key" -> {
                Path path = Path.of(System.getenv("CONFORMANCE_DIR"), session.alias + ".pem");
                KeyFile.save(path, session.created.getSshPrivateKey());
                String again;
                try {
                    KeyFile.save(path, session.created.getSshPrivateKey());
                    again = "overwritten";
                } catch (FileAlreadyExistsException expected) {
                    again = "refused";
                }
                int mode = (Integer) Files.getAttribute(path, "unix:mode") & 0xfff;
                say(step, String.format("mode=%04o again=%s", mode, again));
            }
            case "sessions" -> {
                SessionFilter filter = read(step.get("filter"), SessionFilter.newBuilder());
                boolean states = step.has("show_state") && step.get("show_state").getAsBoolean();
                List<String> told = client.listSessions(ListSessionsRequest.newBuilder().setFilter(filter).setPageSize(1).build()).stream()
                        .map(s -> " " + aliasOf(s.getSessionId()) + (states ? ":" + s.getState() : "")).toList();
                say(step, "count=" + told.size() + String.join("", told));
            }
            case "watch" -> watch(step);
            case "watch_sessions" -> watchSessions(step);
            case "wait_running" -> {
                try {
                    Session s = client.waitForRunning(id);
                    String address = s.getSshHost().isEmpty() || s.getSshPort() == 0 ? "no" : "yes";
                    say(step, s.getState() + " " + s.getProvider() + " " + s.getGpuModel() + " x" + s.getGpuCount() + " user=" + s.getSshUser()
                            + " address=" + address);
                } catch (SessionEndedException ended) {
                    say(step, "ended " + ended.session().getEndReason());
                }
            }
            case "wait_ended" -> {
                Session s = client.waitForEnd(id);
                say(step, s.getState() + " " + s.getEndReason() + " cost_final=" + s.getCostFinal());
            }
            case "extend" -> {
                GetSessionRequest get = GetSessionRequest.newBuilder().setSessionId(id).build();
                long before = client.sessions().getSession(get).getSession().getExpireTime().getSeconds();
                ExtendSessionResponse answer = client.sessions().extendSession(ExtendSessionRequest.newBuilder()
                        .setSessionId(id)
                        .setAdditionalDuration(Duration.newBuilder().setSeconds(step.get("by").getAsLong()))
                        .setRequestId(text(step, "request_id"))
                        .build());
                say(step, "by=" + (answer.getSession().getExpireTime().getSeconds() - before) + " replayed=" + answer.getReplayed());
            }
            case "update_labels" -> {
                UpdateSessionRequest.Builder request = UpdateSessionRequest.newBuilder().setSessionId(id);
                step.getAsJsonObject("labels").entrySet().forEach(e -> request.putLabels(e.getKey(), e.getValue().getAsString()));
                say(step, "labels=" + labels(client.sessions().updateSession(request.build()).getSession().getLabelsMap()));
            }
            case "complete" -> {
                Session s = client.sessions().completeSession(CompleteSessionRequest.newBuilder().setSessionId(id).build()).getSession();
                say(step, s.getState() + " " + s.getEndReason());
            }
            case "destroy" -> {
                Session s = client.sessions().destroySession(DestroySessionRequest.newBuilder().setSessionId(id).build()).getSession();
                say(step, s.getState() + " " + s.getEndReason());
            }
            case "events" -> {
                List<String> told = client.events(id, step.get("page_size").getAsInt()).stream().map(Conformance::key).toList();
                say(step, "same_as_watched=" + told.equals(session.events.stream().map(Conformance::key).toList()));
            }
            case "cost" -> cost(step, id);
            case "control" -> {
                order(text(step, "do"));
                say(step, "ok");
            }
            default -> throw new IllegalStateException("no step " + text(step, "op"));
        }
    }

    private static String key(SessionEvent e) {
        return e.getRevision() + " " + e.getSequence() + " " + e.getType() + " " + e.getToState();
    }
}

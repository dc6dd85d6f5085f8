package dev.gpushopper.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.TimeUnit;

/** A world to test in ({@code clients/conformance/world.py}) as a child: marketplaces, a server and a proxy that cuts. */
final class World implements AutoCloseable {
    private final Process child;
    private final JsonObject facts;
    private final HttpClient http = HttpClient.newHttpClient();

    World() throws Exception {
        child = new ProcessBuilder("python3", "../conformance/world.py").redirectError(ProcessBuilder.Redirect.INHERIT).start();
        BufferedReader said = child.inputReader();
        String line = said.readLine();
        assertTrue(line != null, "the world did not come to be; its reason stands above");
        facts = JsonParser.parseString(line).getAsJsonObject();
    }

    String at(String name) {
        return facts.get(name).getAsString();
    }

    String order(String what) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(at("control") + "/" + what)).POST(HttpRequest.BodyPublishers.noBody()).build();
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        assertEquals(200, answer.statusCode(), answer.body());
        return answer.body();
    }

    @Override
    public void close() throws Exception {
        child.outputWriter().close();
        if (!child.waitFor(5, TimeUnit.MINUTES)) {
            child.destroyForcibly();
        }
    }
}

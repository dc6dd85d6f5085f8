package dev.gpushopper.client;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Where the server is: {@code http://host:port}, {@code https://host:port} or {@code host:port}. */
record Address(boolean https, String host, int port) {
    // Not java.net.URI, which takes a host with an underscore in its name for none.
    private static final Pattern FORM = Pattern.compile("(?:(https?)://)?(\\[[0-9a-f:.]+]|[^\\s/?#@:\\[\\]]+)(?::(\\d{1,5}))?/?", Pattern.CASE_INSENSITIVE);

    /**
     * Reads one.
     *
     * @throws IllegalArgumentException for anything else; it does not repeat it: there may be a password in it
     */
    static Address parse(String text) {
        Matcher parts = FORM.matcher(text);
        int port = -1;
        if (parts.matches()) {
            boolean https = "https".equalsIgnoreCase(parts.group(1));
            port = parts.group(3) == null ? https ? 443 : 80 : Integer.parseInt(parts.group(3));
            if (port > 0 && port <= 65_535) {
                return new Address(https, parts.group(2), port);
            }
        }
        throw new IllegalArgumentException("the server's address makes no sense; allowed: http://host:port, https://host:port or host:port;"
                + " a token goes into the builder");
    }
}

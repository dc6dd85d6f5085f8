package dev.gpushopper.client;

import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** All items of all pages, fetched as they are asked for. Each iteration begins anew. */
public final class Pages<T> implements Iterable<T> {
    /** One page and the token of the next, empty at the end. */
    record Page<T>(List<T> items, String next) {}

    private final Function<String, Page<T>> fetch;

    Pages(Function<String, Page<T>> fetch) {
        this.fetch = fetch;
    }

    @Override
    public Iterator<T> iterator() {
        return new Iterator<>() {
            private Iterator<T> items = List.<T>of().iterator();
            private String token = "";
            private boolean last;

            @Override
            public boolean hasNext() {
                while (!items.hasNext() && !last) {
                    Page<T> page = fetch.apply(token);
                    items = page.items().iterator();
                    token = page.next();
                    last = token.isEmpty();
                }
                return items.hasNext();
            }

            @Override
            public T next() {
                if (!hasNext()) {
                    throw new NoSuchElementException();
                }
                return items.next();
            }
        };
    }

    /** The same as a stream. */
    public Stream<T> stream() {
        return StreamSupport.stream(spliterator(), false);
    }
}

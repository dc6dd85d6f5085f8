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
    private record Page<T>(List<T> items, String next) {}

    private final Function<String, Page<T>> fetch;

    private Pages(Function<String, Page<T>> fetch) {
        this.fetch = fetch;
    }

    /**
     * The items of any call that has pages.
     *
     * <pre>{@code
     * Pages.of(
     *     token -> client.costs().listLedgerEntries(request.toBuilder().setPageToken(token).build()),
     *     ListLedgerEntriesResponse::getEntriesList,
     *     ListLedgerEntriesResponse::getNextPageToken)
     * }</pre>
     *
     * @param call the page at a token, which is empty at first
     * @param items what is on a page
     * @param next the token of the page after it, empty at the end
     */
    public static <A, T> Pages<T> of(Function<String, A> call, Function<A, List<T>> items, Function<A, String> next) {
        return new Pages<>(token -> {
            A page = call.apply(token);
            return new Page<>(items.apply(page), next.apply(page));
        });
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

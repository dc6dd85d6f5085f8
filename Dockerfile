# syntax=docker/dockerfile:1
# The server and its command line in a small image. Nothing of the build stays in it; it runs as nobody.
FROM rust:1.95.0-slim-bookworm AS build
# C compiler and make: SQLite and libsodium are built from source.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin gpu-shopper && cp target/dist/gpu-shopper /gpu-shopper

FROM debian:bookworm-slim
# The vendors' certificates are checked against the system's authorities.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    # Named volumes that are mounted here belong to whom these folders belong to.
    && install -d -o 65534 -g 65534 -m 0700 /data /credentials /tokens
COPY --from=build /gpu-shopper /usr/local/bin/gpu-shopper
# nobody: no rights, and the same as in Prometheus' image, which has to read the token.
USER 65534:65534
WORKDIR /data
ENV DATABASE_PATH=/data/gpu-shopper.db
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=90s --retries=3 CMD ["gpu-shopper", "health"]
ENTRYPOINT ["gpu-shopper"]
CMD ["serve"]

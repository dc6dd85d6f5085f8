# The commands of every day. `make test` is what must be green before anything lands.

.PHONY: test test-rust test-clients test-python test-go test-typescript test-java test-rust-client server clients clients-check descriptor fmt demo deny cargo

# Many tests wait for real programs, so that more of them than there are cores run at once.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

test: test-rust test-clients ## format, lints, every test there is

cargo: # says what is missing, in place of make's bare error
	@command -v cargo >/dev/null 2>&1 || { echo "error: cargo is not installed: install Rust from rustup.rs (it takes the pinned toolchain by itself)" >&2; exit 1; }

test-rust: cargo ## those of the server
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

test-clients: test-python test-go test-typescript test-java test-rust-client ## those of the clients, each in its language

test-python: server ## the Python client alone
	clients/python/test

test-go: server ## the Go client alone
	clients/go/test

test-typescript: server ## the TypeScript client alone, in Node and in a browser
	clients/typescript/test

test-java: server ## the Java client alone
	clients/java/test

test-rust-client: server ## the Rust client alone
	clients/rust/test

server: # what the clients are tested against; GPU_SHOPPER_BIN names another one
	@test -n "$(GPU_SHOPPER_BIN)" || command -v cargo >/dev/null 2>&1 || { echo "error: cargo is not installed, and the clients are tested against the server: install Rust from rustup.rs, or name a built gpu-shopper with GPU_SHOPPER_BIN" >&2; exit 1; }
	@test -n "$(GPU_SHOPPER_BIN)" || cargo build

clients: ## generates the stubs of all clients from proto/
	clients/generate

clients-check: ## whether they are what proto/ says
	clients/generate --check

descriptor: ## the contract as one file, for grpcurl -protoset and the like: target/gpushopper.protoset
	clients/generate --descriptor target

fmt: cargo ## rewrites the sources in the project's format
	cargo fmt

demo: cargo ## the main job once, against simulated marketplaces, and a server to play with
	cargo run --release -- demo

deny: cargo ## licences, doubled crates, sources (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || { echo "error: cargo-deny is not installed: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check licenses bans sources

# The commands of every day. `make test` is what must be green before anything lands.

.PHONY: test test-rust test-clients test-python test-go test-typescript test-java test-rust-client server clients clients-check descriptor fmt demo deny

test: test-rust test-clients ## format, lints, every test there is

test-rust: ## those of the server
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
	test -n "$(GPU_SHOPPER_BIN)" || cargo build

clients: ## generates the stubs of all clients from proto/
	clients/generate

clients-check: ## whether they are what proto/ says
	clients/generate --check

descriptor: ## the contract as one file, for grpcurl -protoset and the like: target/gpushopper.protoset
	clients/generate --descriptor target

fmt: ## rewrites the sources in the project's format
	cargo fmt

demo: ## the main job once, against simulated marketplaces, and a server to play with
	cargo run --release -- demo

deny: ## licences, doubled crates, sources (needs cargo-deny)
	cargo deny check licenses bans sources

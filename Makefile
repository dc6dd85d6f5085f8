# The commands of every day. `make test` is what must be green before anything lands.

.PHONY: test fmt demo deny

test: ## format, lints, every test there is
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

fmt: ## rewrites the sources in the project's format
	cargo fmt

demo: ## the main job once, against simulated marketplaces, and a server to play with
	cargo run --release -- demo

deny: ## licences, doubled crates, sources (needs cargo-deny)
	cargo deny check licenses bans sources

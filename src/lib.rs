//! Cloud GPU Shopper: shops GPU marketplaces, hands over a verified machine by SSH, streams every state change, and never
//! leaves a machine running that nobody wants.
//!
//! This page is the map. The README tells what the service does for its users; each module's header tells what it is, why it
//! is so, and what it is deliberately not.
//!
//! # Bird's eye
//!
//! A *session* is what a consumer asked for; an *attempt* is one try to fulfil it with one offer; an *instance* is the machine
//! at the vendor that an attempt may have brought into being, and at the same time the debt that we keep about it until it
//! is proven gone. One pure function, [`domain::lifecycle::step`], says what becomes of a session when something happens. One
//! actor, [`services::lifecycle`], is the only caller of that function and the only writer of sessions: it decides, commits
//! everything in one transaction, tells, and then has the outside work done. Whatever comes of that work comes back to it as
//! one more input.
//!
//! # Where to begin reading
//!
//! * `CreateSession`: `grpc/sessions.rs` → [`grpc::convert::requests::create`] → [`services::lifecycle::Handle::create`] → the
//!   actor commits row and event, **the reply goes out** → [`domain::lifecycle::step`] → [`services::provisioner`] → a
//!   provider's `wire.rs` → the outcome back as an [`Input`](domain::lifecycle::Input).
//! * `WatchSession`: [`services::sessions::Sessions::watch`]: a cursor over the event log, and a doorbell.
//! * After a crash: the actor's start; every open session gets [`Input::Resumed`](domain::lifecycle::Input::Resumed), which
//!   only looks.
//! * A vendor: [`providers`] (the register), then `providers/vastai/` or `providers/tensordock/`.
//! * Who may call: [`http::rules`] (what each call needs), [`http::access`] (the gate), [`services::access`] (tokens).
//! * Money: [`domain::money`], [`domain::meter`], [`services::costs`].
//! * A whole world in memory: [`sim`], [`chaos`], and `tests/it/support/`.
//!
//! # Floors
//!
//! Each uses only those below it. `tests/it/house.rs` holds the code to this.
//!
//! | floor | modules | what they are |
//! | --- | --- | --- |
//! | 4 | [`app`], [`server`], [`config`], [`telemetry`], [`cli`], [`chaos`] | wiring, settings, commands: where concrete meets abstract; and the simulation of whole days |
//! | 3 | [`grpc`], [`http`] | words of the wire; no decision, no store, no provider |
//! | 2 | [`services`] on one side; [`providers`], [`ssh`], [`sim`] on the other | deciding and recording; acting outside. The sides know each other by `ports` only, and the three on the right not at all |
//! | 1 | [`ports`], [`store`] | traits for third parties and chance; our own disk |
//! | 0 | [`domain`], [`clock`] | every decision, pure; the one place that reads a clock |
//!
//! # What is not there, on purpose
//!
//! * No decision outside of [`domain`], and no I/O, runtime or clock inside of it.
//! * No second writer of sessions, and no lock around them: to change one, send the actor a message.
//! * No launch that is repeated. An unknown outcome leads to looking, never to launching again.
//! * No absence believed from one list, and no list that is not complete.
//! * No final state while any machine of the session may still exist.
//! * No queue per watcher: a slow reader holds its own cursor and nothing else.
//! * No timer per session: deadlines come from rows, so a restart loses none.
//! * No float near money, no vendor's word outside its folder, no SQL outside [`store`], no protobuf below [`grpc`].
//! * No trait for what has only one implementation: the store is a struct, and a temporary file is its fake.
//! * No `unwrap`, no `expect`, no panic on purpose outside of tests.
//! * No traffic of the consumer's passes through here: we hand over SSH and step aside.

#![warn(missing_docs)]

pub mod app;
pub mod chaos;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod http;
pub mod ports;
pub mod providers;
pub mod server;
pub mod services;
pub mod sim;
pub mod ssh;
pub mod store;
pub mod telemetry;

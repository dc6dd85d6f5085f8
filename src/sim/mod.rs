//! The simulated marketplaces: one market core with three faces.
//!
//! The core ([`Market`]) has hosts of hidden quality, offers, machines, its own billing, one clock and one seeded
//! generator; faults are switches ([`Faults`]). It is shown as an in-memory [`SimProvider`] and [`SimProbe`] for worlds
//! in paused time, and by [`World`] as HTTP servers in the dialects of Vast.ai and TensorDock with a real SSH server
//! behind every machine. It ships with the product: demo, `sim` and the tests run on it.
//!
//! Not here: anything of the real adapters. The two halves know each other only by the vendors' wire.

mod admin_api;
mod billing;
mod cards;
mod catalogue;
mod faults;
mod keys;
mod market;
mod probe;
mod provider;
mod rental;
pub mod ssh_host;
mod state;
mod templates;
mod tensordock_api;
mod vastai_api;
mod vastai_rows;
mod vastai_search;
mod wire;
mod world;

pub use billing::Bill;
pub use cards::{CARDS, Card};
pub use catalogue::{AskFacts, HOURS_PER_MONTH, Kind, Listing, Location, PlaceFacts, catalogue};
pub use faults::{ALWAYS, BadFault, Delay, Fault, Faults, Profile};
pub use keys::{key_blob, keys_in};
pub use market::{AccountId, Credentials, Market, MarketConfig, Truth, Wanted};
pub use probe::SimProbe;
pub use provider::SimProvider;
pub use rental::{GpuTruth, Phase, Shown, Workload};
pub use state::{Order, Pick, Refusal};
pub use tensordock_api::tensordock_router;
pub use vastai_api::vastai_router;
pub use world::{Keys, World, WorldConfig};

/// Which vendor's manners a part of the market has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Containers on slices of machines; ephemeral asks; keys attached later; bids.
    Vastai,
    /// Virtual machines at places; names; keys given at create.
    Tensordock,
}

impl Dialect {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Vastai, Self::Tensordock];

    /// The provider's name in the register.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vastai => "vastai",
            Self::Tensordock => "tensordock",
        }
    }

    /// The reverse of [`Dialect::word`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.word() == word)
    }
}

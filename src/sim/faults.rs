//! What can go wrong in the simulated market, and how long things take: each fault with a rate, each wait with a
//! range, all zero by default, each switchable by name, with three presets.
//!
//! Half of a rate is bound to the listing (what failed there once fails there again), half is chance; calls that act
//! on what exists already (lists, destroys) know chance only. Rates are parts per million, waits milliseconds.

use crate::sim::Dialect;
use std::collections::BTreeMap;
use std::time::Duration;

macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($variant:ident $word:literal $doc:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $doc] $variant,)* }

        impl $name {
            /// All of them, in the order they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the command line and in JSON.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What it does, in one sentence.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc),* }
            }

            /// The reverse of [`Self::word`].
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.word() == word)
            }
        }
    };
}

named! {
    /// Something that goes wrong with a certain rate.
    Fault {
        StaleAsk "stale_ask" "A listed offer is refused at create as gone (TensorDock: no available nodes, in a 200).",
        NoPublicIp "no_public_ip" "Create is refused for want of a public address (TensorDock, in a 200).",
        TooManyRequests "too_many_requests" "Create answers 429; nothing is created.",
        ServerError "server_error" "Create answers 502; nothing is created.",
        ReplyLost "reply_lost" "The machine is created, but the answer never arrives.",
        CreateSlow "create_slow" "The machine is created at once, but the answer takes `create_hang`.",
        StoppedAtCreate "stopped_at_create" "The new machine is intended to be stopped from the start.",
        StartUnavailable "start_unavailable" "Starting a stopped machine is answered with resources_unavailable.",
        ImageStuck "image_stuck" "The image pull shows some progress and never ends.",
        BootFails "boot_fails" "The container or machine cannot be started: an error of the host's runtime.",
        NoAddress "no_address" "The machine runs and never gets an address.",
        KeyNever "key_never" "Keys are accepted and never become effective on that machine.",
        KeyLostOnce "key_lost_once" "The first attachment of a key is lost although answered well; the second works.",
        GpuLies "gpu_lies" "The machine has another GPU model, fewer GPUs or less GPU memory than offered.",
        DriverMissing "driver_missing" "nvidia-smi is missing or can't reach its driver.",
        Vanishes "vanishes" "The host disappears 8 to 15 minutes into the run.",
        Preempted "preempted" "A machine on a bid is outbid 5 to 30 minutes into the run.",
        HostOffline "host_offline" "The host loses contact 2 to 10 minutes into the run, for `offline`.",
        LateVisible "late_visible" "A new machine is missing from lists and reads for `invisible`.",
        PriceRaised "price_raised" "The machine costs 20 % more than offered.",
        AnswerAstray "answer_astray" "The machine is created, and the answer names another machine on the account.",
        OffersFail "offers_fail" "The search for offers answers 500.",
        ListFails "list_fails" "The list of instances answers 500.",
        ListPartial "list_partial" "The list of instances lacks some (Vast.ai's counts still tell the truth).",
        ListSlow "list_slow" "The list of instances takes `list_hang`.",
        GetFails "get_fails" "Reading one instance answers 502.",
        DestroyRefused "destroy_refused" "A machine is `not ready for deletion` for its first `undeletable`.",
        DestroyIgnored "destroy_ignored" "A destroy is answered well and nothing happens.",
        DestroyLostReply "destroy_5xx" "A destroy answers 502 and works.",
        DestroyComesBack "destroy_comes_back" "A destroyed machine is not found for `invisible` and then there again.",
        NanRows "nan_rows" "Offers carry NaN where a number belongs (Vast.ai).",
        Throttled "throttled" "The vendor's limits on the frequency of calls are enforced when this is above zero.",
    }
}

named! {
    /// Something that takes time.
    Delay {
        Latency "latency" "Every call's answer.",
        Schedule "schedule" "From accepted to the first sign of life.",
        ImagePull "image_pull" "Pulling the image.",
        Boot "boot" "Booting, after the image is there.",
        Address "address" "From running to an address.",
        SshUp "ssh_up" "From the address to an answering SSH server.",
        KeyDelay "key_delay" "From attaching a key to its being effective.",
        CreateHang "create_hang" "How long a slow create hangs.",
        ListHang "list_hang" "How long a slow list hangs.",
        Invisible "invisible" "How long a new or badly destroyed machine can't be seen.",
        Undeletable "undeletable" "How long a new machine refuses to be deleted.",
        Offline "offline" "How long a host stays offline.",
        Destroy "destroy" "From accepted destroy to gone.",
    }
}

/// One million: certainty, as a rate.
pub const ALWAYS: u32 = 1_000_000;

/// Rates and waits of one vendor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    rates: BTreeMap<Fault, u32>,
    delays: BTreeMap<Delay, (u64, u64)>,
}

impl Profile {
    /// How often a fault strikes, parts per million.
    #[must_use]
    pub fn rate(&self, fault: Fault) -> u32 {
        self.rates.get(&fault).copied().unwrap_or(0)
    }

    /// Shortest and longest wait, milliseconds.
    #[must_use]
    pub fn delay_ms(&self, delay: Delay) -> (u64, u64) {
        self.delays.get(&delay).copied().unwrap_or((0, 0))
    }

    /// Sets a rate, capped at [`ALWAYS`].
    pub fn set_rate(&mut self, fault: Fault, ppm: u32) {
        self.rates.insert(fault, ppm.min(ALWAYS));
    }

    /// Sets a wait's range in milliseconds.
    pub fn set_delay_ms(&mut self, delay: Delay, shortest: u64, longest: u64) {
        self.delays.insert(delay, (shortest, longest.max(shortest)));
    }

    fn base() -> Self {
        let mut profile = Self::default();
        // Waits of faults that are off cost nothing; they have their natural length from the start.
        for (delay, from, to) in [
            (Delay::CreateHang, 61_000, 90_000),
            (Delay::ListHang, 15_000, 25_000),
            (Delay::Invisible, 5_000, 8_000),
            (Delay::Undeletable, 60_000, 120_000),
            (Delay::Offline, 60_000, 900_000),
        ] {
            profile.set_delay_ms(delay, from, to);
        }
        profile
    }

    fn filled(rates: &[(Fault, u32)], delays: &[(Delay, u64, u64)]) -> Self {
        let mut profile = Self::base();
        rates.iter().for_each(|(fault, ppm)| profile.set_rate(*fault, *ppm));
        delays.iter().for_each(|(delay, from, to)| profile.set_delay_ms(*delay, *from, *to));
        profile
    }
}

/// The faults and waits of both vendors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Of the market that speaks Vast.ai's dialect.
    pub vastai: Profile,
    /// Of the market that speaks TensorDock's dialect.
    pub tensordock: Profile,
}

/// Why a fault could not be set. The message is for whoever typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadFault(pub String);

impl Faults {
    /// The names of the presets.
    pub const PRESETS: [&'static str; 3] = ["none", "gentle", "field"];

    /// Nothing goes wrong and nothing takes any time.
    #[must_use]
    pub fn none() -> Self {
        Self { vastai: Profile::base(), tensordock: Profile::base() }
    }

    /// Nothing goes wrong; machines come up in a few seconds and keys take one: for showing the product.
    #[must_use]
    pub fn gentle() -> Self {
        use Delay as D;
        let vastai = [(D::Schedule, 200, 400), (D::ImagePull, 800, 1_500), (D::Boot, 300, 700), (D::SshUp, 100, 300), (D::KeyDelay, 800, 1_200)];
        let tensordock = [(D::Schedule, 300, 600), (D::Boot, 1_000, 2_000), (D::Address, 300, 600), (D::SshUp, 200, 500)];
        Self { vastai: Profile::filled(&[], &vastai), tensordock: Profile::filled(&[], &tensordock) }
    }

    /// What launches in the field met, with the waits of the real vendors.
    #[must_use]
    pub fn field_mix() -> Self {
        use {Delay as D, Fault as F};
        let vastai = Profile::filled(
            &[
                (F::StaleAsk, 350_000),
                (F::TooManyRequests, 80_000),
                (F::ReplyLost, 60_000),
                (F::StoppedAtCreate, 80_000),
                (F::StartUnavailable, 500_000),
                (F::ImageStuck, 80_000),
                (F::KeyNever, 70_000),
                (F::GpuLies, 30_000),
                (F::Vanishes, 40_000),
            ],
            &[
                (D::Latency, 50, 400),
                (D::Schedule, 1_000, 5_000),
                (D::ImagePull, 20_000, 180_000),
                (D::Boot, 5_000, 20_000),
                (D::Address, 0, 5_000),
                (D::SshUp, 1_000, 10_000),
                (D::KeyDelay, 10_000, 15_000),
            ],
        );
        let tensordock = Profile::filled(
            &[
                (F::StaleAsk, 450_000),
                (F::NoPublicIp, 120_000),
                (F::CreateSlow, 80_000),
                (F::NoAddress, 60_000),
                (F::DriverMissing, 80_000),
                (F::Vanishes, 30_000),
            ],
            &[
                (D::Latency, 100, 600),
                (D::Schedule, 2_000, 10_000),
                (D::Boot, 30_000, 90_000),
                (D::Address, 5_000, 30_000),
                (D::SshUp, 60_000, 90_000),
            ],
        );
        Self { vastai, tensordock }
    }

    /// A preset by name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn preset(name: &str) -> Result<Self, BadFault> {
        match name {
            "none" => Ok(Self::none()),
            "gentle" => Ok(Self::gentle()),
            "field" => Ok(Self::field_mix()),
            _ => Err(BadFault(format!("`{name}` is no fault preset: {}", Self::PRESETS.join(", ")))),
        }
    }

    /// One vendor's.
    #[must_use]
    pub fn of(&self, dialect: Dialect) -> &Profile {
        match dialect {
            Dialect::Vastai => &self.vastai,
            Dialect::Tensordock => &self.tensordock,
        }
    }

    /// The same with one fault's rate (parts per million) at both vendors.
    #[must_use]
    pub fn with(mut self, fault: Fault, ppm: u32) -> Self {
        self.vastai.set_rate(fault, ppm);
        self.tensordock.set_rate(fault, ppm);
        self
    }

    /// The same with one wait of a fixed length at both vendors.
    #[must_use]
    pub fn with_delay(mut self, delay: Delay, wait: Duration) -> Self {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.vastai.set_delay_ms(delay, ms, ms);
        self.tensordock.set_delay_ms(delay, ms, ms);
        self
    }

    /// Sets a fault (`0.35`, `35%`) or a wait (`10s`, `1500ms`, `2m`, `1s..3s`) by name; `vastai.` or `tensordock.`
    /// before the name limits it to one vendor.
    ///
    /// # Errors
    /// When there is no such name, or the value is out of range or unreadable.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadFault> {
        let (vastai, tensordock, word) = match name.split_once('.') {
            Some(("vastai", word)) => (true, false, word),
            Some(("tensordock", word)) => (false, true, word),
            _ => (true, true, name),
        };
        let profiles = [(vastai, &mut self.vastai), (tensordock, &mut self.tensordock)];
        if let Some(fault) = Fault::from_word(word) {
            let ppm = parse_rate(value).ok_or_else(|| BadFault(format!("`{value}` is no rate for {word}: 0 to 1, or 0% to 100%")))?;
            profiles.into_iter().filter(|(on, _)| *on).for_each(|(_, profile)| profile.set_rate(fault, ppm));
        } else if let Some(delay) = Delay::from_word(word) {
            let (from, to) =
                parse_range(value).ok_or_else(|| BadFault(format!("`{value}` is no wait for {word}: like 1500ms, 10s, 2m or 1s..3s")))?;
            profiles.into_iter().filter(|(on, _)| *on).for_each(|(_, profile)| profile.set_delay_ms(delay, from, to));
        } else {
            let known: Vec<&str> = Self::names().into_iter().map(|(name, _)| name).collect();
            return Err(BadFault(format!("`{word}` is no fault: {}", known.join(", "))));
        }
        Ok(())
    }

    /// Every name that [`Faults::set`] takes, with what it does.
    #[must_use]
    pub fn names() -> Vec<(&'static str, &'static str)> {
        let faults = Fault::ALL.iter().map(|fault| (fault.word(), fault.doc()));
        faults.chain(Delay::ALL.iter().map(|delay| (delay.word(), delay.doc()))).collect()
    }
}

/// Reads `0.35` or `35%` as parts per million, without a float.
fn parse_rate(text: &str) -> Option<u32> {
    let (number, digits) = match text.trim().strip_suffix('%') {
        Some(number) => (number, 4),
        None => (text, 6),
    };
    let ppm = u32::try_from(crate::domain::money::scaled(number, digits)?).ok()?;
    (ppm <= ALWAYS).then_some(ppm)
}

fn parse_range(text: &str) -> Option<(u64, u64)> {
    match text.split_once("..") {
        Some((from, to)) => Some((parse_wait(from)?, parse_wait(to)?)).filter(|(from, to)| from <= to),
        None => parse_wait(text).map(|wait| (wait, wait)),
    }
}

fn parse_wait(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let thousandths = u64::try_from(crate::domain::money::scaled(number, 3)?).ok()?;
    thousandths.checked_mul(scale).map(|all| all / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_set_by_name() {
        let mut faults = Faults::none();
        faults.set("stale_ask", "35%").unwrap();
        faults.set("tensordock.vanishes", "0.03").unwrap();
        faults.set("boot", "1s..3s").unwrap();
        faults.set("vastai.key_delay", "1500ms").unwrap();
        assert_eq!((faults.vastai.rate(Fault::StaleAsk), faults.tensordock.rate(Fault::StaleAsk)), (350_000, 350_000));
        assert_eq!((faults.vastai.rate(Fault::Vanishes), faults.tensordock.rate(Fault::Vanishes)), (0, 30_000));
        assert_eq!(faults.vastai.delay_ms(Delay::Boot), (1_000, 3_000));
        assert_eq!((faults.vastai.delay_ms(Delay::KeyDelay), faults.tensordock.delay_ms(Delay::KeyDelay)), ((1_500, 1_500), (0, 0)));
        for (name, value) in [("stale_ask", "2"), ("stale_ask", "-1"), ("nope", "1"), ("boot", "3s..1s"), ("boot", "1 parsec")] {
            assert!(faults.set(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn every_name_is_listed_once_and_settable() {
        let names = Faults::names();
        let mut unique: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        for (name, doc) in names {
            assert!(Faults::none().set(name, "0").is_ok() && doc.ends_with('.'), "{name}");
        }
        for preset in Faults::PRESETS {
            assert!(Faults::preset(preset).is_ok());
        }
    }
}

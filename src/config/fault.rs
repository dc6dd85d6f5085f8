//! What is wrong with the settings: all of it at once, each with its key, its value (never a secret), where it came
//! from and what is allowed.

use std::fmt;

/// One setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, or the file or flag when no key is concerned.
    pub key: String,
    /// The value as it was given; `***` for secrets; `None` when there is none or it should not be shown.
    pub value: Option<String>,
    /// Where it came from: `environment SERVER_PORT`, `file gpu-shopper.toml`.
    pub origin: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        if !self.origin.is_empty() {
            write!(f, " ({})", self.origin)?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The faults; never empty.
    pub faults: Vec<Fault>,
    /// What looks wrong beside them, and may be why: a name that was mistyped leaves another setting unset.
    pub warnings: Vec<String>,
    /// No provider is enabled, which only a server needs; it says so beside them.
    pub no_provider: bool,
}

impl Faults {
    /// What is wrong for a server: that nobody is there to rent from is one more.
    #[must_use]
    pub fn of_server(mut self) -> Self {
        if std::mem::take(&mut self.no_provider) {
            let problem = super::NoProvider.to_string();
            self.faults.push(Fault { key: "providers".to_owned(), value: None, origin: "not set".to_owned(), problem });
        }
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => f.write_str("1 setting is wrong:")?,
            n => write!(f, "{n} settings are wrong:")?,
        }
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

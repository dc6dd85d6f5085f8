//! `config`: the effective settings and where each comes from.

use crate::cli::failure::{Failure, Violation};
use crate::cli::output::{Cell, Console, Table};
use crate::cli::serve::SettingsArgs;
use crate::cli::words::NOTHING;
use crate::config::{Config, Fault, Faults, Sources};
use clap::Args;

/// Arguments of `config`.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Every fault as a wrong field of its own.
fn failure(error: anyhow::Error) -> Failure {
    let Some(Faults { faults, .. }) = error.downcast_ref::<Faults>() else { return Failure::local("CONFIGURATION", format!("{error:#}")) };
    let text = error.to_string();
    let mut failure = Failure::local("CONFIGURATION", text.lines().next().unwrap_or_default().trim_end_matches(':'));
    failure.violations = faults.iter().map(|fault| Violation { field: fault.key.clone(), description: described(fault) }).collect();
    failure
}

/// What is wrong with a setting, then what it is and where that came from: its key stands before it.
fn described(fault: &Fault) -> String {
    match (&fault.value, fault.origin.as_str()) {
        (None, "") => fault.problem.clone(),
        (None, origin) => format!("{} ({origin})", fault.problem),
        (Some(value), "") => format!("{}; it is {value:?}", fault.problem),
        (Some(value), origin) => format!("{}; it is {value:?} ({origin})", fault.problem),
    }
}

/// Prints the settings.
///
/// # Errors
/// With every fault that the settings have, or when nothing can be written.
pub fn run(args: &ConfigArgs, console: &mut Console) -> Result<(), Failure> {
    let loaded = args.settings.flags().and_then(|flags| Ok(Config::load(&Sources::gather(flags, args.settings.config.as_deref())?)?));
    let config = loaded.map_err(|error| {
        error.downcast_ref::<Faults>().iter().flat_map(|faults| &faults.warnings).for_each(|warning| console.warn(warning));
        failure(error)
    })?;
    for warning in &config.warnings {
        console.warn(warning);
    }
    if console.is_json() {
        let rows = config.effective().iter().map(|r| serde_json::json!({"key": r.key, "env": r.env, "value": r.value, "source": r.source}));
        return console.json(&rows.collect::<Vec<_>>());
    }
    let mut table = Table::new(["SETTING", "VALUE", "FROM", "ENVIRONMENT"]);
    for row in config.effective() {
        table.row([row.key, row.value.as_deref().unwrap_or(NOTHING), &row.source, row.env].map(Cell::from));
    }
    console.table(&table, "")
}

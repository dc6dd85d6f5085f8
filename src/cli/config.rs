//! `config`: the effective settings and where each comes from.

use crate::cli::serve::SettingsArgs;
use crate::config::{Config, Row, Sources};
use clap::Args;
use std::io::Write;
use std::process::ExitCode;

/// Arguments of `config`.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Prints the settings; exit code 1 with every fault when something is wrong with them.
#[must_use]
pub fn run(args: &ConfigArgs, json: bool) -> ExitCode {
    let loaded = args.settings.flags().and_then(|flags| Ok(Config::load(&Sources::gather(flags, args.settings.config.as_deref())?)?));
    match loaded {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            let text = if json { as_json(config.effective()) } else { as_table(config.effective()) };
            // A reader that has closed its end has what it wanted.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn as_json(rows: &[Row]) -> String {
    let rows: Vec<serde_json::Value> =
        rows.iter().map(|r| serde_json::json!({"key": r.key, "env": r.env, "value": r.value, "source": r.source})).collect();
    serde_json::to_string_pretty(&rows).unwrap_or_default()
}

fn as_table(rows: &[Row]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["SETTING", "VALUE", "FROM", "ENVIRONMENT"]);
    for row in rows {
        table.add_row([row.key, row.value.as_deref().unwrap_or("-"), &row.source, row.env]);
    }
    table.to_string()
}

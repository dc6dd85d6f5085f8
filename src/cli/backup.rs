//! `backup`: a copy of the database and of the secret beside it, while its server runs or while none does.

use crate::cli::failure::{Exit, Failure};
use crate::cli::output::Console;
use crate::config::{Config, Sources};
use crate::server::beside;
use crate::store::{self, Copied};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Where to write the copy; the secret goes to FILE.secret. Neither may exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Database file [setting: database.path]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,
    /// A settings file (TOML or YAML) instead of gpu-shopper.toml or .yaml in the working directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What `-o json` writes.
#[derive(Serialize)]
struct Told {
    file: String,
    /// Absent when the database has none beside it.
    secret_file: Option<String>,
    bytes: u64,
    revision: i64,
    sessions: i64,
}

/// Runs `backup`; returns the exit code.
pub async fn run(args: BackupArgs, console: &mut Console) -> u8 {
    let done = tokio::task::spawn_blocking(move || copy(&args)).await;
    let done = done.unwrap_or_else(|_| Err(Failure::local("BACKUP", "the copy broke off")));
    let told = done.and_then(|told| {
        if console.is_json() {
            console.json(&told)?;
        } else {
            console.line(&format!("{}: revision {}, {} sessions, {} bytes", told.file, told.revision, told.sessions, told.bytes))?;
            match &told.secret_file {
                Some(file) => console.line(&format!("{file}: the secret; keep it as safe as the database"))?,
                None => console.warn("the database has no secret beside it, so none was copied"),
            }
            console.note("a server that is started on the copy does nothing by itself until `gpu-shopper ops accept-database`");
        }
        Ok(Exit::Ok)
    });
    told.map_or_else(
        |failure| {
            console.failure(&failure);
            failure.exit.code()
        },
        Exit::code,
    )
}

fn copy(args: &BackupArgs) -> Result<Told, Failure> {
    let flags: BTreeMap<String, String> = args.database.iter().map(|path| ("database.path".to_owned(), path.clone())).collect();
    let wrong = |faults: crate::config::Faults| Failure::new(Exit::Usage, "SETTINGS", faults.to_string());
    let sources = Sources::gather(flags, args.config.as_deref()).map_err(wrong)?;
    let database = Config::load(&sources).map_err(wrong)?.database_path;
    let (secret, kept) = (beside(&args.file, "secret"), beside(&database, "secret"));
    for file in [&args.file, &secret] {
        if file.symlink_metadata().is_ok() {
            let hint = "choose another name, or move it away";
            return Err(Failure::local("FILE_EXISTS", format!("{} exists already and is not written over", file.display())).hint(hint));
        }
    }
    let Copied { revision, sessions, bytes } =
        store::backup(&database, &args.file).map_err(|error| Failure::local("BACKUP", crate::cli::failure::clean(&error.to_string())))?;
    let secret_file = match hand_over(&kept, &secret) {
        Ok(there) => there.then(|| secret.display().to_string()),
        Err(error) => {
            // Half a backup would be taken for a whole one.
            let _ = std::fs::remove_file(&args.file);
            return Err(Failure::local("BACKUP", format!("copying the secret {} to {}: {error}", kept.display(), secret.display())));
        }
    };
    Ok(Told { file: args.file.display().to_string(), secret_file, bytes, revision, sessions })
}

/// Copies the secret to a new file that only its owner can read; false when there is none.
fn hand_over(from: &Path, to: &Path) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    match File::open(from) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(to);
    }
    written.map(|()| true)
}

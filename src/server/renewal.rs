//! Credentials that are read again while the server runs: on SIGHUP, from the same places as at the start.

use super::Server;
use crate::config::Config;
use crate::domain::ids::ProviderId;
use crate::providers;

impl Server {
    /// Takes the providers' credentials of newly read settings; everything else of them waits for the next start. Providers
    /// whose credentials are others than before are looked at anew, at once. Returns their names.
    pub async fn renew(&self, config: &Config) -> Vec<&'static str> {
        let mut renewed = Vec::new();
        for entry in providers::REGISTER {
            let id = ProviderId::new(entry.name);
            let held = self.renewable.get(&id);
            match (held, config.providers.get(entry.name)) {
                (Some(provider), Some(settings)) => match provider.renewed(&settings.values) {
                    Ok(Some(link)) => match self.core.operator.renew(&id, || provider.take(link)).await {
                        Ok(()) => renewed.push(entry.name),
                        Err(error) => tracing::error!(provider = entry.name, error = %error.message, "its credentials stay as they were"),
                    },
                    Ok(None) => {}
                    Err(error) => tracing::error!(provider = entry.name, %error, "its credentials stay as they were"),
                },
                (Some(_), None) => {
                    tracing::warn!(
                        provider = entry.name,
                        "its credentials are gone from the settings; those that the server has stay in use until it ends"
                    );
                }
                (None, Some(_)) => tracing::warn!(provider = entry.name, "it has credentials now and is enabled at the next start"),
                (None, None) => {}
            }
        }
        tracing::info!(renewed = renewed.join(","), "credentials were read again");
        renewed
    }
}

//! Templates: ready-made descriptions of what runs on a machine, kept by a vendor.
//!
//! A template says what it runs and what it needs; a request that names one takes over what it does not say itself:
//! request before template before provider. Which words the vendor uses for all this is the adapter's business.

use crate::domain::ids::ProviderId;
use crate::domain::offer::Offer;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use std::collections::BTreeMap;
use std::time::Duration;

/// A template, as its vendor has it now.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// What it is named by in requests; changes when its vendor changes the template.
    pub hash_id: String,
    /// Its name for people.
    pub name: String,
    /// What it is good for, for people; may be empty.
    pub description: String,
    /// The image, with its tag.
    pub image: String,
    /// Environment of the machine.
    pub env: BTreeMap<String, String>,
    /// Ports inside the machine to be mapped, beside SSH.
    pub ports: Vec<u16>,
    /// Shell commands to run at start.
    pub on_start: Option<String>,
    /// The disk that it recommends, GB.
    pub disk_gb: Option<u32>,
    /// Whether it is made for logging in by SSH. The SSH way of running is taken in any case.
    pub ssh: bool,
    /// Whether its vendor recommends it.
    pub recommended: bool,
    /// What a machine must have.
    pub needs: Needs,
}

/// What a template needs of a machine. Absent = no matter.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Only at this vendor: whose template it is.
    pub provider: ProviderId,
    /// At least this CUDA version, as major × 100 + minor.
    pub min_cuda: Option<u32>,
    /// At least this much memory of one GPU, MiB.
    pub min_gpu_memory_mib: Option<u32>,
    /// At least this much memory of all GPUs together, MiB.
    pub min_total_gpu_memory_mib: Option<u32>,
    /// At least this many GPUs.
    pub min_gpu_count: Option<u32>,
    /// Room for this disk, GB.
    pub min_disk_gb: Option<u32>,
}

impl Needs {
    /// None but the vendor.
    #[must_use]
    pub fn of(provider: ProviderId) -> Self {
        Self { provider, min_cuda: None, min_gpu_memory_mib: None, min_total_gpu_memory_mib: None, min_gpu_count: None, min_disk_gb: None }
    }

    /// Whether an offer meets them; what the host does not tell passes.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn met_by(&self, offer: &Offer) -> Result<(), String> {
        if offer.provider != self.provider {
            return Err(format!("it is a template of {}, and the offer is at {}", self.provider, offer.provider));
        }
        if let (Some(least), Some(has)) = (self.min_cuda, offer.cuda)
            && has < least
        {
            return Err(format!("it needs CUDA {}.{}, and the host's driver has {}.{}", least / 100, least % 100, has / 100, has % 100));
        }
        let total = offer.gpu_memory_mib.saturating_mul(offer.gpu_count);
        let rows = [
            (self.min_gpu_memory_mib, offer.gpu_memory_mib, "MiB of memory per GPU"),
            (self.min_total_gpu_memory_mib, total, "MiB of GPU memory in all"),
            (self.min_gpu_count, offer.gpu_count, "GPUs"),
            // 0 = the largest disk is untold.
            (self.min_disk_gb.filter(|_| offer.disk.max_gb > 0), offer.disk.max_gb, "GB of disk"),
        ];
        match rows.into_iter().find_map(|(least, has, what)| least.filter(|least| has < *least).map(|least| (least, has, what))) {
            Some((least, has, what)) => Err(format!("it needs {least} {what}, and the offer has {has}")),
            None => Ok(()),
        }
    }
}

impl Template {
    /// One that says nothing but its name and image.
    #[must_use]
    pub fn bare(provider: ProviderId, hash_id: &str, image: &str) -> Self {
        Self {
            hash_id: hash_id.to_owned(),
            name: hash_id.to_owned(),
            description: String::new(),
            image: image.to_owned(),
            env: BTreeMap::new(),
            ports: Vec::new(),
            on_start: None,
            disk_gb: None,
            ssh: true,
            recommended: false,
            needs: Needs::of(provider),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        &self.needs.provider
    }

    /// How long the first login may take with its image, when nobody says: heavy images are slow to come up.
    #[must_use]
    pub fn ssh_timeout(&self) -> Option<Duration> {
        let image = self.image.to_lowercase();
        // The longest that fits, whichever words an image has.
        let minutes = [("vllm", 15), ("nemo", 15), ("megatron", 15), ("tgi", 12), ("text-generation-inference", 12), ("tensorrt", 12)]
            .into_iter()
            .chain([("deepspeed", 12), ("triton", 12), ("ollama", 12)])
            .filter(|(word, _)| image.contains(word))
            .map(|(_, minutes)| minutes)
            .max()?;
        Some(Duration::from_secs(60 * minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(image: &str) -> Template {
        Template::bare(ProviderId::new("any"), "1", image)
    }

    #[test]
    fn heavy_images_get_the_longest_time_of_all_their_words() {
        let minutes = |name: &str| image(name).ssh_timeout().map(|t| t.as_secs() / 60);
        assert_eq!(minutes("vllm/vllm-openai:v0.6.3"), Some(15));
        assert_eq!(minutes("nvcr.io/nvidia/tritonserver:24.08-vLLM"), Some(15));
        assert_eq!(minutes("ollama/ollama"), Some(12));
        assert_eq!(minutes("ubuntu:22.04"), None);
    }
}

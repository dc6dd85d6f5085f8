//! The templates of the simulated marketplace: what people run there, described as the vendor describes it.

use crate::domain::ids::ProviderId;
use crate::domain::template::{Needs, Template};
use serde_json::{Value, json};

/// A template, with its environment, needs and ports in both shapes that are asked for.
#[derive(Debug)]
pub struct Made {
    /// Its hash.
    pub hash_id: &'static str,
    /// Its name.
    pub name: &'static str,
    image: &'static str,
    tag: &'static str,
    env: &'static [(&'static str, &'static str)],
    ports: &'static [u16],
    on_start: &'static str,
    disk_gb: u32,
    ssh: bool,
    /// Whether the vendor recommends it.
    pub recommended: bool,
    /// CUDA in tenths (124 = 12.4), memory of all GPUs in MiB; 0 = no matter.
    needs: (u32, u32),
}

/// All of them.
pub static TEMPLATES: [Made; 5] = [
    Made {
        hash_id: "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        name: "Ollama",
        image: "ollama/ollama",
        tag: "0.5.7",
        env: &[("OLLAMA_HOST", "0.0.0.0"), ("OLLAMA_ORIGINS", "*")],
        ports: &[11_434],
        on_start: "ollama serve &",
        disk_gb: 80,
        ssh: true,
        recommended: true,
        needs: (120, 0),
    },
    Made {
        hash_id: "1b2c3d4e5f60718293a4b5c6d7e8f90a",
        name: "vLLM",
        image: "vllm/vllm-openai",
        tag: "v0.6.6",
        env: &[("VLLM_MODEL", "Qwen/Qwen2.5-7B-Instruct"), ("VLLM_ARGS", "--max-model-len 8192 --dtype auto")],
        ports: &[8_000],
        on_start: "",
        disk_gb: 120,
        ssh: true,
        recommended: true,
        needs: (124, 22_000),
    },
    Made {
        hash_id: "2c3d4e5f60718293a4b5c6d7e8f90a1b",
        name: "PyTorch",
        image: "pytorch/pytorch",
        tag: "2.5.1-cuda12.4-cudnn9-devel",
        env: &[("DATA_DIRECTORY", "/workspace/")],
        ports: &[1_111, 6_006],
        on_start: "env >> /etc/environment",
        disk_gb: 32,
        ssh: true,
        recommended: true,
        needs: (124, 0),
    },
    Made {
        hash_id: "3d4e5f60718293a4b5c6d7e8f90a1b2c",
        name: "Jupyter, no SSH",
        image: "jupyter/base-notebook",
        tag: "",
        env: &[],
        ports: &[],
        on_start: "",
        disk_gb: 0,
        ssh: false,
        recommended: true,
        needs: (0, 0),
    },
    Made {
        hash_id: "4e5f60718293a4b5c6d7e8f90a1b2c3d",
        name: "Somebody's own",
        image: "somebody/own",
        tag: "latest",
        env: &[],
        ports: &[],
        on_start: "",
        disk_gb: 20,
        ssh: true,
        recommended: false,
        needs: (0, 0),
    },
];

impl Made {
    /// As a row of the vendor's answer.
    pub(super) fn row(&self, at: usize) -> Value {
        let ports = self.ports.iter().map(|port| format!("-p {port}:{port}"));
        let env: Vec<String> = ports.chain(self.env.iter().map(|(name, value)| format!("-e {name}=\"{value}\""))).collect();
        let (cuda, memory) = self.needs;
        let mut filters = serde_json::Map::new();
        if cuda > 0 {
            filters.insert("cuda_max_good".to_owned(), json!({"gte": f64::from(cuda) / 10.0}));
        }
        if memory > 0 {
            filters.insert("gpu_total_ram".to_owned(), json!({"gte": memory}));
        }
        json!({
            "id": 61_000 + at, "hash_id": self.hash_id, "name": self.name, "image": self.image, "tag": self.tag, "creator_id": 62_897,
            "desc": format!("{} as the vendor's users run it", self.name), "env": env.join(" "), "onstart": self.on_start,
            "recommended_disk_space": self.disk_gb, "use_ssh": self.ssh, "ssh_direct": self.ssh, "use_jupyter_lab": false,
            "jup_direct": !self.ssh, "runtype": if self.ssh { "ssh" } else { "jupyter" }, "private": false, "recommended": self.recommended,
            // The vendor sends an object's text here.
            "extra_filters": Value::Object(filters).to_string(), "count_created": 4_711, "docker_login_repo": null,
        })
    }

    /// As what it means.
    #[must_use]
    pub fn template(&self, provider: &ProviderId) -> Template {
        let (cuda, memory) = self.needs;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Template {
            hash_id: self.hash_id.to_owned(),
            name: self.name.to_owned(),
            description: format!("{} as the vendor's users run it", self.name),
            image: if self.tag.is_empty() { self.image.to_owned() } else { format!("{}:{}", self.image, self.tag) },
            env: self.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ports: self.ports.to_vec(),
            on_start: text(self.on_start),
            disk_gb: (self.disk_gb > 0).then_some(self.disk_gb),
            ssh: self.ssh,
            recommended: self.recommended,
            needs: Needs {
                min_cuda: (cuda > 0).then(|| cuda / 10 * 100 + cuda % 10),
                min_total_gpu_memory_mib: (memory > 0).then_some(memory),
                ..Needs::of(provider.clone())
            },
        }
    }
}

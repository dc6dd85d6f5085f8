//! Launch mode `entrypoint`: which server program a machine starts by itself, and where its API answers.
//!
//! Machines are logged in to by SSH in any case, and on such machines vendors don't run an image's own entrypoint; so the
//! program is named here in full. What runs a container instead gives the image only what follows its entrypoint.

use crate::domain::session::{LaunchMode, Quantization, Request, Session, Workload};

/// The image for `llm_vllm` when nobody says one.
pub const VLLM_IMAGE: &str = "vllm/vllm-openai:v0.6.6";
/// The image for `llm_tgi` when nobody says one.
pub const TGI_IMAGE: &str = "ghcr.io/huggingface/text-generation-inference:3.0.1";

/// A server program that a machine starts by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The image that has it.
    pub image: String,
    /// What the image's entrypoint is; empty when the start commands say it all.
    pub entrypoint: Vec<String>,
    /// What follows it.
    pub arguments: Vec<String>,
    /// Where its API listens inside the machine.
    pub port: Option<u16>,
}

/// The program that a request wants started; `None` in launch mode `ssh`.
#[must_use]
pub fn service(request: &Request) -> Option<Service> {
    if request.launch_mode == LaunchMode::Ssh {
        return None;
    }
    let image = |default: &str| request.image().unwrap_or(default).to_owned();
    let port = api_port(request);
    let model = request.model_id.clone().unwrap_or_default();
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let listen = port.unwrap_or_default().to_string();
    Some(match request.workload {
        Workload::LlmVllm => {
            let mut arguments = words(&["--model", &model, "--host", "0.0.0.0", "--port", &listen]);
            arguments.extend(words(match request.quantization {
                Some(Quantization::Awq) => &["--quantization", "awq"],
                Some(Quantization::Gptq) => &["--quantization", "gptq"],
                Some(Quantization::Fp8) => &["--quantization", "fp8"],
                Some(Quantization::Fp32) => &["--dtype", "float32"],
                Some(Quantization::Fp16) => &["--dtype", "float16"],
                Some(Quantization::Bf16) => &["--dtype", "bfloat16"],
                Some(Quantization::Int8 | Quantization::Int4 | Quantization::GgufQ4) | None => &[],
            }));
            Service { image: image(VLLM_IMAGE), entrypoint: words(&["python3", "-m", "vllm.entrypoints.openai.api_server"]), arguments, port }
        }
        Workload::LlmTgi => {
            let mut arguments = words(&["--model-id", &model, "--hostname", "0.0.0.0", "--port", &listen]);
            arguments.extend(words(match request.quantization {
                Some(Quantization::Awq) => &["--quantize", "awq"],
                Some(Quantization::Gptq) => &["--quantize", "gptq"],
                Some(Quantization::Fp8) => &["--quantize", "fp8"],
                Some(Quantization::Fp16) => &["--dtype", "float16"],
                Some(Quantization::Bf16) => &["--dtype", "bfloat16"],
                Some(Quantization::Fp32 | Quantization::Int8 | Quantization::Int4 | Quantization::GgufQ4) | None => &[],
            }));
            Service { image: image(TGI_IMAGE), entrypoint: words(&["text-generation-launcher"]), arguments, port }
        }
        Workload::Llm | Workload::Training | Workload::Batch | Workload::Interactive | Workload::Inference | Workload::Ssh | Workload::Benchmark => {
            Service { image: image(""), entrypoint: Vec::new(), arguments: Vec::new(), port }
        }
    })
}

/// Where the API listens inside the machine, in launch mode `entrypoint`: the first port asked for, else the program's own.
#[must_use]
pub fn api_port(request: &Request) -> Option<u16> {
    if request.launch_mode == LaunchMode::Ssh {
        return None;
    }
    let own = match request.workload {
        Workload::LlmVllm => Some(8000),
        Workload::LlmTgi => Some(80),
        Workload::Llm | Workload::Training | Workload::Batch | Workload::Interactive | Workload::Inference | Workload::Ssh | Workload::Benchmark => {
            None
        }
    };
    request.exposed_ports.first().copied().or(own)
}

/// All ports inside the machine that are to be mapped, beside SSH, in order.
#[must_use]
pub fn ports(request: &Request) -> Vec<u16> {
    let template = request.template.iter().flat_map(|t| t.ports.iter().copied());
    let mut all: Vec<u16> = request.exposed_ports.iter().copied().chain(api_port(request)).chain(template).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What is asked of the API to see whether it is ready.
#[must_use]
pub fn health_path(workload: Workload) -> &'static str {
    match workload {
        Workload::LlmVllm => "/v1/models",
        Workload::LlmTgi => "/health",
        _ => "/",
    }
}

/// Where a session's API can be reached from outside: the vendor's mapping, or the machine's own address where it has one.
#[must_use]
pub fn api_address(session: &Session) -> Option<(String, u16)> {
    let inside = api_port(&session.request)?;
    match session.ports.iter().find(|(from, _)| *from == inside) {
        Some((_, outside)) => Some((session.public_host.clone()?, *outside)),
        // Without any mapping the address is the machine's own, and every port is what it is.
        None if session.ports.is_empty() => {
            let own = session.endpoint.as_ref().filter(|e| !e.proxied)?;
            Some((own.host.clone(), inside))
        }
        None => None,
    }
}

/// The URL of an address.
#[must_use]
pub fn url(host: &str, port: u16) -> String {
    // Only IPv6 addresses have colons.
    if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
}

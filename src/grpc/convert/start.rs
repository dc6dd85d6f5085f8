//! What a machine is started with, from the wire: environment, commands, model, ports, launch mode. Secrets leave here
//! beside the request, never in it.

use super::answers::hex;
use super::fields::Fields;
use crate::domain::ids::clip;
use crate::domain::session::{LaunchMode, Quantization, RegistryLogin, SealedStart, StartSecrets, Workload};
use crate::grpc::pb;
use sha2::{Digest, Sha256};

const LONGEST_ON_START: usize = 16_384;
const LONGEST_MODEL_ID: usize = 200;
const MOST_PORTS: usize = 32;
/// The longest name, user or password of a registry login, bytes.
const LONGEST_LOGIN: usize = 4096;

/// What a machine is started with, in two halves: what may be told, and what is to be sealed.
pub(super) struct Start {
    pub told: SealedStart,
    pub secrets: StartSecrets,
    pub launch_mode: LaunchMode,
    pub model_id: Option<String>,
    pub quantization: Option<Quantization>,
    pub exposed_ports: Vec<u16>,
}

/// Reads it, noting every fault.
pub(super) fn start(fields: &mut Fields, request: &pb::CreateSessionRequest, workload: Workload) -> Start {
    fields.env("env", &request.env);
    fields.env("secret_env", &request.secret_env);
    if let Some(name) = request.secret_env.keys().find(|name| request.env.contains_key(*name)) {
        fields.wrong("secret_env", format!("`{}` is in `env` as well; say it once", clip(name, 64)));
    }
    if let Some(script) = &request.on_start_cmd
        && (script.is_empty() || script.len() > LONGEST_ON_START || script.contains('\0'))
    {
        fields.wrong("on_start_cmd", format!("{} bytes; allowed: 1 to {LONGEST_ON_START} bytes without NUL", script.len()));
    }
    if let Some(model) = &request.model_id {
        let plain = model.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:-".contains(&b));
        if model.is_empty() || model.len() > LONGEST_MODEL_ID || model.starts_with('-') || !plain {
            let rule = format!("allowed: 1 to {LONGEST_MODEL_ID} letters, digits and `._/:-`, not beginning with `-`");
            fields.wrong("model_id", format!("`{}`; {rule}", clip(model, 64)));
        }
    }
    let quantization = fields.word("quantization", request.quantization);
    if quantization.is_some() && request.model_id.is_none() {
        fields.wrong("quantization", "goes with `model_id`, which is missing: say which model, or leave both out");
    }
    let launch_mode = fields.word("launch_mode", request.launch_mode).unwrap_or(LaunchMode::Ssh);
    if launch_mode == LaunchMode::Entrypoint {
        entrypoint(fields, request, workload);
    }
    let registry = request.registry_login.as_ref().map(|login| registry(fields, login, request.docker_image.is_some()));
    let secrets = StartSecrets { env: request.env.clone(), secret_env: request.secret_env.clone(), on_start: request.on_start_cmd.clone(), registry };
    Start {
        told: SealedStart {
            sealed: None,
            env_names: secrets.env.keys().cloned().collect(),
            secret_env_names: secrets.secret_env.keys().cloned().collect(),
            on_start_sha256: secrets.on_start.as_ref().map(|script| hex(&Sha256::digest(script.as_bytes()))),
            registry: secrets.registry.as_ref().map(|login| login.server.clone()),
        },
        secrets,
        launch_mode,
        model_id: request.model_id.clone(),
        quantization,
        exposed_ports: ports(fields, &request.exposed_ports),
    }
}

/// What a machine that is to start a server needs to know about it.
fn entrypoint(fields: &mut Fields, request: &pb::CreateSessionRequest, workload: Workload) {
    if matches!(workload, Workload::LlmVllm | Workload::LlmTgi) {
        if request.model_id.is_none() {
            fields.wrong("model_id", format!("required: which model {workload} is to serve"));
        }
    } else {
        let rule = "required in launch mode entrypoint: an image's own entrypoint does not run on machines with SSH \
                    (or choose the workload llm_vllm or llm_tgi)";
        for (field, missing) in [("docker_image", request.docker_image.is_none()), ("on_start_cmd", request.on_start_cmd.is_none())] {
            if missing {
                fields.wrong(field, rule);
            }
        }
    }
}

/// Its values are secrets and not repeated; they go into a line of options, so that blanks have no place in them.
fn registry(fields: &mut Fields, login: &pb::RegistryLogin, image: bool) -> RegistryLogin {
    if !image {
        fields.wrong("registry_login", "goes with `docker_image`, which is missing");
    }
    let parts = [("server", &login.server, 0), ("username", &login.username, 1), ("password", &login.password, 1)];
    for (name, text, least) in parts {
        if text.len() < least || text.len() > LONGEST_LOGIN || !text.bytes().all(|b| b.is_ascii_graphic()) || text.starts_with('-') {
            let rule = format!("allowed: {least} to {LONGEST_LOGIN} visible ASCII characters, not beginning with `-`");
            fields.wrong(&format!("registry_login.{name}"), rule);
        }
    }
    RegistryLogin { server: login.server.clone(), username: login.username.clone(), password: login.password.clone() }
}

fn ports(fields: &mut Fields, given: &[i32]) -> Vec<u16> {
    if given.len() > MOST_PORTS {
        fields.wrong("exposed_ports", format!("{} ports; allowed: at most {MOST_PORTS}", given.len()));
    }
    let mut found = Vec::new();
    for port in given.iter().take(MOST_PORTS) {
        match u16::try_from(*port) {
            Ok(22) => fields.wrong("exposed_ports", "22 is SSH's and reachable anyway; leave it out"),
            Ok(port) if port > 0 && !found.contains(&port) => found.push(port),
            Ok(port) if port > 0 => fields.wrong("exposed_ports", format!("{port} is there twice")),
            _ => fields.wrong("exposed_ports", format!("{port} is out of range; allowed: 1 to 65535")),
        }
    }
    found
}

//! `sessions list`, `get`, `events`, `diagnostics`: looking, changing nothing.

use super::WhichArgs;
use crate::cli::Desk;
use crate::cli::client::{Clients, asking, asking_slowly};
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Message;
use crate::cli::output::{Cell, Table, Tint};
use crate::cli::values::PageArgs;
use crate::cli::words;
use crate::domain::time::Time;
use crate::grpc::pb;
use crate::grpc::pb::get_session_diagnostics_response::FreshGpu;

/// `sessions list`.
pub async fn list(filter: &WhichArgs, page: &PageArgs, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let mut request = pb::ListSessionsRequest { filter: Some(filter.filter()), ..Default::default() };
    let mut whole = pb::ListSessionsResponse::default();
    while let Some(size) = page.next(whole.sessions.len()) {
        request.page_size = size;
        let answer = clients.sessions.list_sessions(asking(request.clone())).await?.into_inner();
        whole.sessions.extend(answer.sessions);
        request.page_token.clone_from(&answer.next_page_token);
        whole.next_page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListSessionsResponse", &whole)?)?;
        return Ok(Exit::Ok);
    }
    let now = desk.clock.now();
    let mut table = Table::new(["SESSION", "STATE", "STAGE", "CONSUMER", "PROVIDER", "GPU", ">PRICE/H", ">COST", ">AGE", ">EXPIRES IN", "REASON"]);
    for session in &whole.read_sessions()? {
        let over = crate::cli::watch::is_over(session.state);
        table.row([
            session.session_id.as_str().into(),
            Cell::state(&words::state(session.state)),
            words::stage(session.stage).into(),
            words::text(&session.consumer_id).into(),
            words::text(&session.provider).into(),
            words::gpus(session.gpu_count, &session.gpu_model).into(),
            words::dollars(session.price.as_ref().and_then(|p| p.total_per_hour.as_ref())).into(),
            words::dollars(session.cost.as_ref().and_then(|c| c.cost.as_ref())).into(),
            words::ago(now, session.create_time.as_ref()).into(),
            words::until(now, session.expire_time.as_ref().filter(|_| !over)).into(),
            words::end_reason(session.end_reason).into(),
        ]);
    }
    desk.console.table(&table, "no sessions")?;
    if !whole.next_page_token.is_empty() {
        desk.console.note("there are more; --all or a larger --limit shows them");
    }
    Ok(Exit::Ok)
}

/// `sessions get`.
pub async fn get(session_id: String, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let answer = clients.sessions.get_session(asking(pb::GetSessionRequest { session_id })).await?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("GetSessionResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let session = answer.read_session()?;
    let now = desk.clock.now();
    let mut table = facts(&session, now);
    table.fact("Log in", &session.ssh_command);
    table.fact("known_hosts", &session.known_hosts_line);
    for port in &session.ports {
        table.fact("Port", format!("{} at {}:{}", port.inside, session.ssh_host, port.outside));
    }
    for (key, value) in &session.labels {
        table.fact("Label", format!("{key}={value}"));
    }
    desk.console.table(&table, "")?;
    if !session.conditions.is_empty() {
        let mut table = Table::new(["CONDITION", "HOLDS", "WHY", ">SINCE"]);
        for condition in &session.conditions {
            let status = words::condition_status(condition.status);
            let tint = match status.as_str() {
                "true" => Tint::Good,
                "false" => Tint::Bad,
                _ => Tint::Busy,
            };
            table.row([
                words::condition(condition.r#type).into(),
                Cell::tinted(status, tint),
                words::text(&condition.reason).into(),
                words::ago(now, condition.time.as_ref()).into(),
            ]);
        }
        desk.console.line("")?;
        desk.console.table(&table, "")?;
    }
    if !session.attempts.is_empty() {
        desk.console.line("")?;
        let table = attempts(&session);
        desk.console.table(&table, "")?;
    }
    Ok(Exit::Ok)
}

/// What a session is, in names and values.
#[must_use]
pub fn facts(session: &pb::Session, now: Time) -> Table {
    let mut table = Table::facts();
    let (state, stage) = (words::state(session.state), words::stage(session.stage));
    let open = !crate::cli::watch::is_over(session.state);
    table.fact("Session", &session.session_id);
    table.fact("Consumer", &session.consumer_id);
    table.fact("State", Cell::tinted(format!("{state} ({stage})").replace(" (-)", ""), Tint::of_state(&state)));
    table.fact("Ends because", words::end_reason(session.end_reason));
    table.fact("Status", &session.status_message);
    table.fact("Error", Cell::tinted(&session.error, Tint::Bad));
    if !session.gpu_model.is_empty() {
        let gpus = words::gpus_with_memory(session.gpu_count, &session.gpu_model, session.gpu_memory_mib);
        table.fact("GPU", format!("{gpus} at {}", session.provider));
    }
    table.fact("Offer", &session.offer_id);
    table.fact("Price", session.price.as_ref().map(|p| words::dollars(p.total_per_hour.as_ref()) + " per hour").unwrap_or_default());
    if let Some(cost) = &session.cost {
        let mut marks = Vec::new();
        marks.extend(session.cost_final.then_some("final"));
        marks.extend(cost.estimated.then_some("estimated"));
        let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
        table.fact("Cost", words::exact(cost.cost.as_ref()) + &marks);
    }
    table.fact("Created", words::moment(session.create_time.as_ref()));
    table.fact("Running since", words::moment(session.running_time.as_ref()));
    if open {
        let left = words::until(now, session.expire_time.as_ref());
        table.fact("Expires", if left == words::NOTHING { left } else { format!("{} (in {left})", words::moment(session.expire_time.as_ref())) });
        table.fact("Never beyond", words::moment(session.hard_max_time.as_ref()));
    }
    let idle_end = session.spec.as_ref().and_then(|spec| spec.idle_threshold.as_ref()).filter(|t| open && t.seconds > 0);
    table.fact("Idle for", idle_end.and(session.idle_time.as_ref()).map(|at| words::ago(now, Some(at))).unwrap_or_default());
    table.fact("Ends when idle for", idle_end.map(|t| words::duration(Some(t))).unwrap_or_default());
    table.fact("Ended", words::moment(session.end_time.as_ref()));
    table.fact("Host key", &session.host_key_fingerprint);
    table
}

fn attempts(session: &pb::Session) -> Table {
    let mut table = Table::new([">ATTEMPT", "OFFER", "PROVIDER", "GPU", "STAGE", "FAILURE", ">COST", "WORDS"]);
    for attempt in &session.attempts {
        table.row([
            attempt.number.to_string().into(),
            words::text(&attempt.offer_id).into(),
            words::text(&attempt.provider).into(),
            words::gpus(attempt.gpu_count, &attempt.gpu_model).into(),
            words::stage(attempt.stage).into(),
            words::attempt_failure(attempt.failure).into(),
            words::exact(attempt.cost.as_ref()).into(),
            words::text(&attempt.text).into(),
        ]);
    }
    table
}

/// `sessions events`.
pub async fn events(session_id: String, page: &PageArgs, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    let mut request = pb::ListSessionEventsRequest { session_id, ..Default::default() };
    let mut whole = pb::ListSessionEventsResponse::default();
    while let Some(size) = page.next(whole.events.len()) {
        request.page_size = size;
        let answer = clients.sessions.list_session_events(asking(request.clone())).await?.into_inner();
        whole.events.extend(answer.events);
        request.page_token.clone_from(&answer.next_page_token);
        whole.next_page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if desk.console.is_json() {
        desk.console.json(&Message::of("ListSessionEventsResponse", &whole)?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new([">#", "TIME", "EVENT", "STATE", "STAGE", "REASON", "BY", ">COST", "WHAT"]);
    for event in &whole.events {
        table.row([
            event.sequence.to_string().into(),
            words::moment(event.occur_time.as_ref()).into(),
            words::event(event.r#type).into(),
            Cell::state(&words::state(event.to_state)),
            words::stage(event.stage).into(),
            words::end_reason(event.end_reason).into(),
            words::text(&event.actor).into(),
            words::exact(event.cost.as_ref().and_then(|c| c.cost.as_ref())).into(),
            words::text(&event.message).into(),
        ]);
    }
    desk.console.table(&table, "no events")?;
    if !whole.next_page_token.is_empty() {
        desk.console.note("there are more; --all or a larger --limit shows them");
    }
    Ok(Exit::Ok)
}

/// `sessions diagnostics`.
pub async fn diagnostics(session_id: String, desk: &mut Desk, clients: &mut Clients) -> Result<Exit, Failure> {
    desk.console.busy("looking at the machine");
    let answer = clients.sessions.get_session_diagnostics(asking_slowly(pb::GetSessionDiagnosticsRequest { session_id })).await;
    desk.console.rest();
    let answer = answer?.into_inner();
    if desk.console.is_json() {
        desk.console.json(&Message::of("GetSessionDiagnosticsResponse", &answer)?)?;
        return Ok(Exit::Ok);
    }
    let now = desk.clock.now();
    let session = answer.session.clone().unwrap_or_default();
    let mut table = facts(&session, now);
    table.fact("In this stage for", words::ago(now, answer.stage_time.as_ref()));
    table.fact("Stage may last", words::until(now, answer.stage_deadline_time.as_ref()));
    table.fact("Up for", words::duration(answer.uptime.as_ref()));
    table.fact("Logins tried", if answer.probes > 0 { answer.probes.to_string() } else { String::new() });
    table.fact("Last login", Cell::tinted(&answer.last_probe_error, Tint::Bad));
    match &answer.fresh_gpu {
        Some(FreshGpu::FreshGpuReport(report)) => {
            for gpu in &report.gpus {
                table.fact("GPU just now", format!("{}, {}", gpu.name, words::memory(gpu.memory_mib)));
            }
            table.fact("Driver", &report.driver_version);
            table.fact("CUDA up to", &report.cuda_version);
        }
        Some(FreshGpu::FreshGpuError(error)) => table.fact("GPU just now", Cell::tinted(error, Tint::Bad)),
        None => {}
    }
    for reading in &answer.fresh_use {
        let (used, value) = (words::condition_status(reading.idle), reading.value.map(|v| format!(" ({v})")).unwrap_or_default());
        let used = match used.as_str() {
            "true" => "idle",
            "false" => "in use",
            _ => "can't be told",
        };
        table.fact("Use just now", format!("{}: {used}{value}", words::text(&reading.signal)));
    }
    table.fact("Use just now", Cell::tinted(&answer.fresh_use_error, Tint::Bad));
    if let Some(idleness) = &answer.idleness {
        table.fact("Last sign of use", format!("{} at {}", words::text(&idleness.last_signal), words::moment(idleness.last_signal_time.as_ref())));
        table.fact("Idle end", idleness.end_time.as_ref().map(|at| words::moment(Some(at))).unwrap_or_default());
    }
    desk.console.table(&table, "")?;
    if !answer.instances.is_empty() {
        let mut table = Table::new([
            ">ATTEMPT",
            "PROVIDER",
            "VENDOR'S ID",
            "LAUNCH",
            "WANTED",
            "STATUS",
            "VENDOR'S WORDS",
            ">SEEN",
            ">DESTROY TRIES",
            "SETTLED BY",
            "DESTROY ERROR",
        ]);
        for instance in &answer.instances {
            table.row([
                instance.attempt.to_string().into(),
                words::text(&instance.provider).into(),
                words::text(&instance.native_id).into(),
                words::launch(instance.launch).into(),
                words::desired(instance.desired).into(),
                words::instance_status(instance.status).into(),
                words::text(&instance.raw_status).into(),
                words::ago(now, instance.seen_time.as_ref()).into(),
                instance.destroy_tries.to_string().into(),
                words::evidence(instance.evidence).into(),
                words::text(&instance.destroy_error).into(),
            ]);
        }
        desk.console.line("")?;
        desk.console.table(&table, "")?;
    }
    Ok(Exit::Ok)
}

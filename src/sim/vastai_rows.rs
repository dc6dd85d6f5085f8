//! Rows as Vast.ai writes them: asks and instances with all their fields, in the vendor's names and types.
//!
//! Prices are decimals of integers: at most twelve decimals, which a JSON number carries exactly.

use crate::domain::money::{Nanos, Rate};
use crate::domain::time::Time;
use crate::sim::catalogue::{AskFacts, HOURS_PER_MONTH, Kind, Listing};
use crate::sim::wire::number;
use crate::sim::{Phase, Shown};
use serde_json::{Map, Value, json};
use std::time::Duration;

fn rate(rate: Rate) -> Value {
    number(&rate.decimal())
}

fn dollars(amount: Nanos) -> Value {
    number(&amount.decimal())
}

/// Seconds since the epoch with a fraction.
fn epoch(at: Time) -> Value {
    number(&format!("{}.{:03}", at.millis() / 1_000, at.millis().rem_euclid(1_000)))
}

/// An ask as the search shows it: for `bid` at the least bid, with a disk of `allocated_gb`.
pub(super) fn ask_row(id: u64, listing: &Listing, bid: bool, allocated_gb: u32, begun: Time, now: Time) -> Map<String, Value> {
    let Kind::Ask(ask) = &listing.kind else { return Map::new() };
    let gpu = if bid { ask.min_bid } else { ask.base };
    let disk = ask.disk_per_gb.times(allocated_gb);
    let end = begun + Duration::from_secs(ask.listed_s);
    let traffic = ask.traffic.0 + ask.traffic.1;
    let mut row = machine_fields(ask, listing);
    row.extend(object(json!({
        "id": id, "ask_contract_id": id, "bundle_id": 1_000_000_000 + ask.machine_id * 7, "bundled_results": null,
        "cluster_id": null, "is_bid": bid, "rentable": true, "rented": false, "rn": 1, "external": null,
        "dph_base": rate(gpu), "dph_total": rate(gpu + disk), "discounted_dph_total": rate(gpu + disk),
        "dph_total_adj": number(&Rate(gpu.0 + disk.0 + traffic.0 * 1_000).decimal()),
        "min_bid": rate(ask.min_bid), "storage_total_cost": rate(disk), "discount_rate": 0.0, "discounted_hourly": 0.0,
        "credit_discount_max": 0.4, "duration": seconds(end, now), "end_date": epoch(end), "start_date": epoch(begun),
        "search": hourly(gpu, disk), "instance": hourly(Rate::ZERO, disk),
        "disk_space": number(&format!("{}.5", ask.disk_gb)), "logo": "/static/logos/vastai_small2.png", "webpage": null,
        "time_remaining": "", "time_remaining_isbid": "", "resource_type": "gpu", "vms_enabled": false,
        "is_vm_deverified": false, "avail_vol_ask_id": null,
    })));
    row
}

/// An instance as its owner sees it.
pub(super) fn instance_row(shown: &Shown, begun: Time, now: Time) -> Map<String, Value> {
    let Kind::Ask(ask) = &shown.listing.kind else { return Map::new() };
    let (actual, wanted) = (actual_status(shown), if shown.wants_running { "running" } else { "stopped" });
    let proxy = shown.proxy.as_ref();
    // With Jupyter, the proxy's SSH is one port above the one it names.
    let shift = u16::from(shown.order.runtype.contains("jupyter"));
    let end = begun + Duration::from_secs(ask.listed_s);
    let running = shown.phase == Phase::Running;
    let env: Vec<Value> = shown.order.env.iter().map(|(name, value)| json!([name, value])).collect();
    let mut row = machine_fields(ask, &shown.listing);
    row.extend(object(json!({
        "id": shown.native_id.parse::<u64>().unwrap_or(0), "label": some_text(&shown.order.label),
        "actual_status": actual, "intended_status": wanted, "cur_state": wanted, "next_state": wanted,
        "status_msg": some_text(&shown.status_text),
        "ssh_host": proxy.map(|at| at.0.clone()), "ssh_port": proxy.map(|at| at.1.saturating_sub(shift)), "ssh_idx": proxy.map(|_| "3"),
        "public_ipaddr": shown.direct.as_ref().map(|at| if ask.address.ends_with('\n') { format!("{} \n", at.0) } else { at.0.clone() }),
        "ports": ports(shown), "direct_port_start": -1, "direct_port_end": -1, "machine_dir_ssh_port": 5_300, "local_ipaddrs": "172.17.0.2 \n",
        "is_bid": shown.order.bid.is_some(), "min_bid": rate(ask.min_bid), "bundle_id": 1_000_000_000 + ask.machine_id * 7,
        "dph_base": rate(shown.price.gpu), "dph_total": rate(shown.price.total()), "storage_total_cost": rate(shown.price.disk),
        "search": hourly(shown.price.gpu, shown.price.disk),
        "instance": hourly(if running { shown.price.gpu } else { Rate::ZERO }, shown.price.disk),
    })));
    row.extend(object(json!({
        "disk_space": number(&format!("{}.0", shown.order.disk_gb)), "image_uuid": shown.order.image, "image_runtype": shown.order.runtype,
        "image_args": [], "extra_env": env, "onstart": null, "template_id": null, "template_hash_id": null, "template_name": null,
        "start_date": epoch(shown.created), "end_date": epoch(end), "duration": seconds(end, now),
        "uptime_mins": null, "cpu_util": 0.0, "mem_limit": null, "mem_usage": null, "vmem_usage": null,
        "gpu_util": running.then(|| f64::from(shown.workload.reported_percent())), "gpu_temp": running.then_some(39.0), "disk_util": -1, "disk_usage": -1, "rentable": true,
        "jupyter_token": format!("{:016x}", shown.ask_id.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(4),
        "credit_balance": null, "credit_discount": null, "credit_discount_max": 0.4, "client_run_time": 1.1, "host_run_time": 2_592_000.0,
        "external": false, "time_remaining": "", "time_remaining_isbid": "", "country_code": null, "volume_info": [],
        "logo": "/static/logos/vastai_small2.png", "webpage": null,
    })));
    row
}

/// The vendor's words for what a machine does.
fn actual_status(shown: &Shown) -> Value {
    match shown.phase {
        _ if shown.offline => json!("offline"),
        Phase::Scheduled => Value::Null,
        Phase::Starting => json!("loading"),
        Phase::Running => json!("running"),
        // A container that was never started looks like one that is about to be.
        Phase::Stopped if !shown.ran => json!("created"),
        Phase::Failed => json!("created"),
        Phase::Deleting => json!("destroying"),
        Phase::Stopped | Phase::Gone => json!("exited"),
    }
}

/// Docker's map of ports: host ports are text.
fn ports(shown: &Shown) -> Value {
    let mapped = |outside: u16| json!([{"HostIp": "0.0.0.0", "HostPort": outside.to_string()}, {"HostIp": "::", "HostPort": outside.to_string()}]);
    let Some((_, ssh)) = &shown.direct else {
        return if shown.proxy.is_some() { json!({}) } else { Value::Null };
    };
    let mut all = Map::new();
    all.insert("22/tcp".to_owned(), mapped(*ssh));
    for (inside, outside) in &shown.ports {
        all.insert(format!("{inside}/tcp"), mapped(*outside));
    }
    Value::Object(all)
}

/// What asks and instances have in common: the machine.
fn machine_fields(ask: &AskFacts, listing: &Listing) -> Map<String, Value> {
    let (slice, whole) = ask.gpus;
    let share = f64::from(slice) / f64::from(whole.max(1));
    let reliability = f64::from(ask.reliability_ppm) / 1e6;
    let gpu_ids: Vec<u64> = (0..u64::from(slice)).map(|n| ask.machine_id * 8 + n).collect();
    let per_tb = |per_gb: Nanos| dollars(Nanos(per_gb.0.saturating_mul(1_000)));
    let cuda = f64::from(ask.driver.1) / 10.0;
    let digits: String = ask.driver.0.chars().filter(char::is_ascii_digit).collect();
    let flops = f64::from(listing.card.tflops * slice);
    let mut fields = object(json!({
        "machine_id": ask.machine_id, "host_id": ask.host_id, "hosting_type": 0, "hostname": null,
        "gpu_name": listing.card.vastai, "gpu_arch": "nvidia", "num_gpus": slice, "gpu_frac": share, "gpu_ids": gpu_ids,
        "gpu_ram": listing.gpu_mib, "gpu_total_ram": listing.gpu_mib * slice, "gpu_totalram": listing.gpu_mib * slice,
        "gpu_lanes": 16, "gpu_mem_bw": 900.4, "gpu_display_active": false, "bw_nvlink": 0.0, "compute_cap": listing.card.capability,
        "cpu_arch": "amd64", "cpu_cores": ask.cpu_cores, "cpu_cores_effective": ask.cpu_cores.map(|cores| f64::from(cores) * share),
        "cpu_ghz": 2.3, "cpu_name": ask.cpu_name, "cpu_ram": ask.cpu_ram_mb, "has_avx": 1, "mobo_name": "H12SSL", "pci_gen": 4.0, "pcie_bw": 12.3,
        "cuda_max_good": cuda, "driver_version": ask.driver.0, "driver_vers": digits.parse::<u64>().unwrap_or(0), "os_version": "22.04",
        "disk_name": "INTEL SSDPE2KX080T8", "disk_bw": 2_545.294, "storage_cost": rate(Rate(ask.disk_per_gb.0.saturating_mul(HOURS_PER_MONTH))),
    }));
    fields.extend(object(json!({
        "inet_up": ask.inet.0, "inet_down": ask.inet.1, "inet_up_cost": dollars(ask.traffic.0), "inet_down_cost": dollars(ask.traffic.1),
        "internet_up_cost_per_tb": per_tb(ask.traffic.0), "internet_down_cost_per_tb": per_tb(ask.traffic.1),
        "geolocation": ask.geolocation, "geolocode": ask.geolocation.map_or(0, |place| place.len() * 921_675),
        "direct_port_count": ask.direct_ports, "static_ip": ask.static_ip, "public_ipaddr": ask.address,
        "reliability": reliability, "reliability2": reliability, "reliability_mult": reliability * reliability,
        "verification": ask.verification, "vericode": u8::from(ask.verification == "verified"),
        "total_flops": flops, "dlperf": flops * 1.28, "dlperf_per_dphtotal": 400.0, "flops_per_dphtotal": 330.0, "score": 190.0 + reliability,
        "vram_costperhour": 1.0e-05,
    })));
    fields
}

fn hourly(gpu: Rate, disk: Rate) -> Value {
    json!({
        "gpuCostPerHour": rate(gpu), "diskHour": rate(disk), "totalHour": rate(gpu + disk),
        "discountTotalHour": 0, "discountedTotalPerHour": rate(gpu + disk),
    })
}

fn seconds(end: Time, now: Time) -> Value {
    let left = end.since(now).as_millis();
    number(&format!("{}.{:03}", left / 1_000, left % 1_000))
}

fn some_text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

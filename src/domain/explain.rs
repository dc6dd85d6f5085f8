//! Why a filter leaves so few offers, and the least that has to give.
//!
//! For each field of the filter: how many offers it turns away in order (after the fields before it), how many on its own,
//! and how many it alone keeps out. Then, for each field that alone keeps some out, the smallest change of that field by
//! which at least one offer passes. A change is measured as a share of what was asked; dropping a yes-or-no condition, or
//! allowing one more model, place or provider, counts as a change by all of it.

use crate::domain::ids::OfferId;
use crate::domain::money::Rate;
use crate::domain::offer::{Offer, OfferFilter, RentalKind};
use crate::domain::shelf::Shelf;
use std::sync::Arc;

/// Shares are told to this many parts of one, so that the value to set is short; rounded to the side that lets offers pass.
const SHARE_STEPS: f64 = 10_000.0;
/// A rate on the wire has this many pico-dollars at least.
const PICOS_PER_NANO: i64 = 1_000;
/// A change by all that was asked, in thousandths.
const WHOLLY: u64 = 1_000;

/// What one field of a filter does.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The field, by its name in the filter.
    pub field: &'static str,
    /// Offers that it turns away after the fields before it.
    pub removed: usize,
    /// Offers that it turns away when it stands alone.
    pub removed_alone: usize,
    /// Offers that would be left if this field were dropped and all others kept.
    pub left_without: usize,
}

/// The smallest change of one field by which offers pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Relaxation {
    /// The field, by its name in the filter.
    pub field: &'static str,
    /// What to set it to, for people; of a list, what to add (or take away).
    pub value: String,
    /// The whole filter with the change.
    pub filter: OfferFilter,
    /// Offers that pass then: at least one.
    pub offers: usize,
    /// The cheapest of them, all in.
    pub from: Rate,
    /// How large the change is, thousandths of what was asked; 1000 where it can't be measured.
    pub change: u64,
}

/// See the module's header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// Offers looked at.
    pub total: usize,
    /// Offers that pass.
    pub passing: usize,
    /// Fields that turn offers away, in the order in which they are applied.
    pub effects: Vec<Effect>,
    /// Changes of a single field that let offers pass, the smallest first. Empty when no single one does.
    pub relaxations: Vec<Relaxation>,
    /// When nothing passes and no single change helps: the offer that fails the fewest fields, and these.
    pub closest: Option<(OfferId, Vec<&'static str>)>,
}

impl Explanation {
    /// One sentence for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = match self.passing {
            0 => format!("none of {} offers meets the request", self.total),
            n => format!("{n} of {} offers meet the request", self.total),
        };
        let mut worst: Vec<&Effect> = self.effects.iter().filter(|e| e.removed > 0).collect();
        worst.sort_by_key(|e| std::cmp::Reverse(e.removed));
        let told: Vec<String> = worst.iter().take(3).map(|e| format!("{} turns away {}", e.field, e.removed)).collect();
        if !told.is_empty() {
            text.push_str(&format!(" ({})", told.join(", ")));
        }
        if let Some(first) = self.relaxations.first() {
            text.push_str(&format!("; with {} {}, {} would, from {}", first.field, first.value, first.offers, first.from));
        } else if let Some((offer, fields)) = &self.closest {
            text.push_str(&format!("; no single change helps: the closest, {offer}, fails {}", fields.join(" and ")));
        }
        text
    }
}

/// Explains what a filter does to these offers.
#[must_use]
pub fn explain(offers: &Shelf, filter: &OfferFilter) -> Explanation {
    let mut out = Explanation { total: offers.len(), ..Explanation::default() };
    let mut closest: Option<(usize, Rate, &Arc<Offer>)> = None;
    // Offers that a single field keeps out, by that field.
    let mut kept_out: Vec<(&'static str, Vec<&Arc<Offer>>)> = Vec::new();
    for offer in offers.iter() {
        let tests = filter.tests(offer);
        if out.effects.is_empty() {
            out.effects = tests.iter().map(|(field, _)| Effect { field, removed: 0, removed_alone: 0, left_without: 0 }).collect();
            kept_out = tests.iter().map(|(field, _)| (*field, Vec::new())).collect();
        }
        let failed: Vec<usize> = tests.iter().enumerate().filter(|(_, (_, passes))| !passes).map(|(at, _)| at).collect();
        for at in &failed {
            out.effects[*at].removed_alone += 1;
        }
        match failed.as_slice() {
            [] => out.passing += 1,
            [only] => kept_out[*only].1.push(offer),
            _ => {}
        }
        if let Some(first) = failed.first() {
            out.effects[*first].removed += 1;
            let rank = (failed.len(), offer.price(filter.disk_gb).total(), offer);
            if closest.is_none_or(|(fields, price, _)| (rank.0, rank.1) < (fields, price)) {
                closest = Some(rank);
            }
        }
    }
    for (effect, (_, only)) in out.effects.iter_mut().zip(&kept_out) {
        effect.left_without = out.passing + only.len();
    }
    out.relaxations =
        kept_out.iter().filter_map(|(field, near)| relaxed(offers, filter, field, near, out.passing)).filter(|r| r.offers > out.passing).collect();
    out.relaxations.sort_by_key(|r| r.change);
    out.effects.retain(|e| e.removed_alone > 0);
    if out.passing == 0 && out.relaxations.is_empty() {
        out.closest = closest.map(|(_, _, offer)| {
            let fails = filter.tests(offer).iter().filter(|(_, passes)| !passes).map(|(field, _)| *field).collect();
            (offer.id.clone(), fails)
        });
    }
    out
}

/// The smallest change of one field, given the offers that this field alone keeps out.
fn relaxed(offers: &Shelf, filter: &OfferFilter, field: &'static str, near: &[&Arc<Offer>], already: usize) -> Option<Relaxation> {
    let (value, changed, change) = if field == "disk_gb" { smaller_disk(offers, filter)? } else { changed(filter, field, near, already > 0)? };
    let passing: Vec<Rate> = offers.iter().filter(|o| changed.check(o).is_ok()).map(|o| o.price(changed.disk_gb).total()).collect();
    let from = passing.iter().copied().min()?;
    Some(Relaxation { field, value, filter: changed, offers: passing.len(), from, change })
}

/// How much `to` differs from `from`, in thousandths of `from`.
fn thousandths(from: i128, to: i128) -> u64 {
    let change = (to - from).unsigned_abs().saturating_mul(1_000) / from.unsigned_abs().max(1);
    u64::try_from(change).unwrap_or(u64::MAX)
}

fn share_thousandths(from: f64, to: f64) -> u64 {
    ((from - to).abs() / from.max(1e-6) * 1_000.0) as u64
}

/// Down to a short number that still lets the offer pass.
fn rounded_share(share: f64) -> f64 {
    (share * SHARE_STEPS).floor() / SHARE_STEPS
}

/// Up to what the wire can tell.
fn rounded_rate(rate: Rate) -> Rate {
    Rate((rate.0 + PICOS_PER_NANO - 1) / PICOS_PER_NANO * PICOS_PER_NANO)
}

/// `12.4` of 1204.
fn cuda_text(cuda: u32) -> String {
    format!("{}.{}", cuda / 100, cuda % 100)
}

type Changed = (String, OfferFilter, u64);

/// `keep`: some offers pass already and must go on passing, so that an exact value can only be dropped.
fn changed(filter: &OfferFilter, field: &'static str, near: &[&Arc<Offer>], keep: bool) -> Option<Changed> {
    let cheapest = || near.iter().min_by_key(|o| (o.price(filter.disk_gb).total(), &o.id));
    let mut next = filter.clone();
    let whole = |old: Option<u32>, new: u32| thousandths(old.unwrap_or(0).into(), new.into());
    let (value, change) = match field {
        "providers" => {
            let add = cheapest()?.provider.clone();
            next.providers.push(add.clone());
            (format!("and {add}"), WHOLLY)
        }
        "gpu_models" => {
            let add = cheapest()?.gpu.clone();
            next.gpu_models.push(add.clone());
            (format!("and {add}"), WHOLLY)
        }
        "min_gpu_memory_mib" => {
            let to = near.iter().map(|o| o.gpu_memory_mib).max()?;
            next.min_gpu_memory_mib = Some(to);
            (to.to_string(), whole(filter.min_gpu_memory_mib, to))
        }
        "max_gpu_memory_mib" => {
            let to = near.iter().map(|o| o.gpu_memory_mib).min()?;
            next.max_gpu_memory_mib = Some(to);
            (to.to_string(), whole(filter.max_gpu_memory_mib, to))
        }
        "gpu_count" if keep && !near.is_empty() => {
            next.gpu_count = None;
            ("unset".to_owned(), WHOLLY)
        }
        "rental_kind" if keep && !near.is_empty() => {
            next.rental = None;
            ("unset".to_owned(), WHOLLY)
        }
        "gpu_count" => {
            let asked = filter.gpu_count?;
            let to = near.iter().map(|o| o.gpu_count).min_by_key(|n| (n.abs_diff(asked), std::cmp::Reverse(*n)))?;
            next.gpu_count = Some(to);
            (to.to_string(), whole(filter.gpu_count, to))
        }
        "min_gpu_count" => {
            let to = near.iter().map(|o| o.gpu_count).max()?;
            next.min_gpu_count = Some(to);
            (to.to_string(), whole(filter.min_gpu_count, to))
        }
        "max_price_per_hour" => {
            let to = rounded_rate(near.iter().map(|o| o.price(filter.disk_gb).total()).min()?);
            next.max_price = Some(to);
            (format!("${}/h", to.decimal()), thousandths(filter.max_price?.0.into(), to.0.into()))
        }
        "max_price_per_gpu_hour" => {
            let each = |o: &Offer| {
                let (all, count) = (o.price(filter.disk_gb).total().0, i64::from(o.gpu_count.max(1)));
                Rate(all / count + i64::from(all % count != 0))
            };
            let to = rounded_rate(near.iter().map(|o| each(o)).min()?);
            next.max_price_per_gpu = Some(to);
            (format!("${}/h", to.decimal()), thousandths(filter.max_price_per_gpu?.0.into(), to.0.into()))
        }
        "regions" => {
            let place = &cheapest()?.region;
            match place.country.clone().or_else(|| Some(place.raw.clone()).filter(|raw| raw.chars().count() > 2)) {
                Some(add) => {
                    next.regions.push(add.clone());
                    (format!("and {add}"), WHOLLY)
                }
                None => {
                    next.regions.clear();
                    ("unset".to_owned(), WHOLLY)
                }
            }
        }
        "min_reliability" => {
            let best = near.iter().filter_map(|o| o.reliability).max_by(f64::total_cmp);
            next.min_reliability = best.map(rounded_share);
            (best.map_or("unset".to_owned(), |r| rounded_share(r).to_string()), share_thousandths(filter.min_reliability?, best.unwrap_or(0.0)))
        }
        "min_cuda" => {
            let best = near.iter().filter_map(|o| o.cuda).max();
            next.min_cuda = best;
            (best.map_or("unset".to_owned(), cuda_text), best.map_or(WHOLLY, |to| whole(filter.min_cuda, to)))
        }
        "rental_kind" => {
            let kind = cheapest()?.rental;
            next.rental = Some(kind);
            (if kind == RentalKind::OnDemand { "on demand" } else { "interruptible" }.to_owned(), WHOLLY)
        }
        "verified_only" => {
            next.verified_only = false;
            ("false".to_owned(), WHOLLY)
        }
        "min_confidence" => {
            let best = rounded_share(near.iter().map(|o| o.confidence).max_by(f64::total_cmp)?);
            next.min_confidence = Some(best);
            (best.to_string(), share_thousandths(filter.min_confidence?, best))
        }
        "template_hash_id" => {
            cheapest()?;
            (next.template, next.needs) = (None, None);
            ("unset".to_owned(), WHOLLY)
        }
        "excluded_machines" => {
            let back = cheapest()?.machine.clone();
            next.excluded_machines.retain(|m| *m != back);
            (format!("without {back}"), WHOLLY)
        }
        "host_end" => {
            let to = near.iter().filter_map(|o| o.host_end).max()?;
            next.host_end_after = Some(to);
            (format!("{to} (a shorter reservation)"), WHOLLY)
        }
        _ => return None,
    };
    Some((value, next, change))
}

/// The largest disk below the one asked for that some offer has. Its price changes with it, so everything is looked at anew.
fn smaller_disk(offers: &Shelf, filter: &OfferFilter) -> Option<Changed> {
    let asked = filter.disk_gb?;
    let sizes = offers.iter().filter(|o| o.disk.max_gb > 0).filter_map(|o| {
        let step = o.disk.step_gb.max(1);
        let most = o.disk.max_gb / step * step;
        let changed = OfferFilter { disk_gb: Some(most), ..filter.clone() };
        (most > 0 && most < asked && changed.check(o).is_ok()).then_some(most)
    });
    let most = sizes.max()?;
    Some((format!("{most} GB"), OfferFilter { disk_gb: Some(most), ..filter.clone() }, thousandths(asked.into(), most.into())))
}

#[cfg(test)]
mod tests;

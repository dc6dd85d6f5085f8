//! What many of Vast.ai's offers say alike, kept once: the names of GPUs, places, hosts, and the machines behind several offers.
//!
//! Offers are read anew each minute, tens of thousands of them, while those from before are still shown: what both say is the
//! same text in memory, and a GPU's name or a place is made sense of once. It changes no value.

use crate::domain::gpu::GpuModel;
use crate::domain::ids::{HostId, MachineId};
use crate::domain::offer::Region;
use crate::providers::place;
use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// See the module's header.
#[derive(Debug, Default)]
pub struct Alike {
    /// By the vendor's name.
    gpus: HashMap<Arc<str>, GpuModel>,
    /// By the vendor's text.
    regions: HashMap<Box<str>, Arc<Region>>,
    machines: HashSet<MachineId>,
    hosts: HashSet<HostId>,
}

impl Alike {
    /// A GPU by the vendor's name, with that name.
    pub fn gpu(&mut self, raw: &str) -> (Arc<str>, GpuModel) {
        if let Some((raw, model)) = self.gpus.get_key_value(raw) {
            return (Arc::clone(raw), model.clone());
        }
        let (raw, model) = (Arc::<str>::from(raw), GpuModel::canonical(raw));
        self.gpus.insert(Arc::clone(&raw), model.clone());
        (raw, model)
    }

    /// Where a machine stands, by the vendor's text.
    pub fn region(&mut self, text: &str) -> Arc<Region> {
        if let Some(region) = self.regions.get(text) {
            return Arc::clone(region);
        }
        let region = Arc::new(place::from_text(text));
        self.regions.insert(Box::from(text), Arc::clone(&region));
        region
    }

    /// A machine's id.
    pub fn machine(&mut self, id: &str) -> MachineId {
        one(&mut self.machines, id, MachineId::new)
    }

    /// A host's id.
    pub fn host(&mut self, id: &str) -> HostId {
        one(&mut self.hosts, id, HostId::new)
    }

    /// Lets go of what no offer says any more, so that it never holds more than is in use.
    pub fn forget_unused(&mut self) {
        self.gpus.retain(|raw, _| Arc::strong_count(raw) > 1);
        self.regions.retain(|_, region| Arc::strong_count(region) > 1);
        self.machines.retain(MachineId::is_shared);
        self.hosts.retain(HostId::is_shared);
    }
}

fn one<T: Clone + Eq + Hash + Borrow<str>>(all: &mut HashSet<T>, text: &str, new: fn(&str) -> T) -> T {
    if let Some(known) = all.get(text) {
        return known.clone();
    }
    let made = new(text);
    all.insert(made.clone());
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(alike: &Alike) -> [usize; 4] {
        [alike.gpus.len(), alike.regions.len(), alike.machines.len(), alike.hosts.len()]
    }

    #[test]
    fn what_is_said_twice_is_kept_once_and_as_long_as_it_is_in_use() {
        let mut alike = Alike::default();
        let (raw, model) = alike.gpu("RTX_4090");
        let (again, _) = alike.gpu("RTX_4090");
        assert!(Arc::ptr_eq(&raw, &again) && model == GpuModel::canonical("RTX 4090"));
        let region = alike.region("Texas, US");
        assert!(Arc::ptr_eq(&region, &alike.region("Texas, US")) && *region == place::from_text("Texas, US"));
        let (machine, host) = (alike.machine("vastai:1"), alike.host("vastai:host-1"));
        assert_eq!((alike.machine("vastai:1"), alike.host("vastai:host-1")), (machine.clone(), host.clone()));
        let others = (alike.gpu("H100 SXM"), alike.region(", CN"), alike.machine("vastai:2"), alike.host("vastai:host-2"));
        assert_eq!(held(&alike), [2, 2, 2, 2]);
        drop((others, again));
        alike.forget_unused();
        assert_eq!(held(&alike), [1, 1, 1, 1]);
        drop((raw, region, machine, host));
        alike.forget_unused();
        assert_eq!(held(&alike), [0, 0, 0, 0]);
    }
}

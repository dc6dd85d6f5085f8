//! GPU names and memory as everybody means them: one canonical name per model, aliases accepted, memory by the
//! nearest real size. Never a prefix match: `A100` with 40 GB and with 80 GB differ by memory, not by luck.
//!
//! Memory: vendors report MiB that are a little short of the nominal size (24564 for a 24 GiB card), so sizes snap
//! to the nearest nominal size within 7 %; a modified card (a 4090 with 49140 MiB) stays what it reports.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A canonical GPU model name: `RTX 4090`, `H100 SXM`, `A100 PCIE`. Without memory, which is a field of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuModel(Arc<str>);

impl GpuModel {
    /// The canonical name for whatever a vendor or a user writes: `NVIDIA GeForce RTX 4090`, `rtx4090`,
    /// `geforcertx4090-pcie-24gb`, `H100_SXM5`. Unknown models keep their own tidied words.
    #[must_use]
    pub fn canonical(raw: &str) -> Self {
        let key = squeeze(raw);
        if let Some((_, name)) = KNOWN.iter().find(|(alias, _)| *alias == key) {
            return Self(Arc::from(*name));
        }
        let tidy: Vec<String> = raw
            .split(|c: char| c.is_whitespace() || c == '_')
            .filter(|w| !w.is_empty() && !NOISE.contains(&w.to_lowercase().as_str()))
            .map(|w| w.chars().filter(|c| !c.is_control()).collect::<String>().to_uppercase())
            .collect();
        Self(Arc::from(tidy.join(" ").as_str()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a user who asks for `asked` would take this: the same model, or a family name (`A100`, `H100`,
    /// `H200`, `V100`) for each of its form factors.
    #[must_use]
    pub fn answers(&self, asked: &Self) -> bool {
        self == asked || (FAMILIES.contains(&asked.as_str()) && self.0.strip_prefix(asked.as_str()).is_some_and(|rest| rest.starts_with(' ')))
    }
}

impl fmt::Display for GpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Nominal memory sizes of cards on the market, in GiB.
const SIZES_GIB: &[u32] = &[4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 144, 180, 192, 288];

/// Reported MiB of one GPU snapped to the nominal size it means, in MiB: 24564 → 24576, 81559 → 81920. What is
/// further than 7 % from every size is kept as reported.
#[must_use]
pub fn snap_memory_mib(reported: u32) -> u32 {
    let near = SIZES_GIB.iter().map(|gib| gib * 1024).min_by_key(|size| size.abs_diff(reported));
    match near {
        Some(size) if u64::from(size.abs_diff(reported)) * 100 <= u64::from(size) * 7 => size,
        _ => reported,
    }
}

const FAMILIES: &[&str] = &["A100", "H100", "H200", "B200", "V100", "P100"];
const NOISE: &[&str] = &["nvidia", "geforce", "tesla", "quadro", "gpu", "graphics"];

/// The memory that a name says beside the model, MiB: `A100 80GB`, `a100-pcie-40gb`, `V100 32 GiB`. `None` when it says none.
#[must_use]
pub fn named_memory_mib(raw: &str) -> Option<u32> {
    // More than any GPU has is the machine's memory: a GH200 480GB.
    words(raw)
        .iter()
        .skip(1)
        .find_map(|word| gigabytes(word))
        .filter(|gib| SIZES_GIB.last().is_some_and(|most| gib <= most))
        .map(|gib| snap_memory_mib(gib.saturating_mul(1024)))
}

/// Letters and digits of a name in lower case; a number and the unit after it are one word.
fn words(raw: &str) -> Vec<String> {
    let lower = raw.to_lowercase();
    let mut words: Vec<String> = Vec::new();
    for word in lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
        match words.last_mut() {
            Some(number) if matches!(word, "gb" | "gib") && number.bytes().all(|b| b.is_ascii_digit()) => number.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    words
}

fn gigabytes(word: &str) -> Option<u32> {
    word.strip_suffix("gb").or_else(|| word.strip_suffix("gib"))?.parse().ok()
}

/// Lower case, letters and digits only, without brand words and memory sizes.
fn squeeze(raw: &str) -> String {
    let mut out = String::new();
    for (at, word) in words(raw).iter().enumerate() {
        if (at > 0 && gigabytes(word).is_some()) || NOISE.contains(&word.as_str()) {
            continue;
        }
        out.push_str(word);
    }
    for brand in NOISE {
        if let Some(rest) = out.strip_prefix(brand) {
            out = rest.to_owned();
        }
    }
    out
}

/// Squeezed spelling → canonical name.
const KNOWN: &[(&str, &str)] = &[
    ("rtx2080ti", "RTX 2080 TI"),
    ("2080ti", "RTX 2080 TI"),
    ("rtx2080tipcie", "RTX 2080 TI"),
    ("rtx3060", "RTX 3060"),
    ("3060", "RTX 3060"),
    ("rtx3060pcie", "RTX 3060"),
    ("rtx3060ti", "RTX 3060 TI"),
    ("rtx3070", "RTX 3070"),
    ("rtx3070ti", "RTX 3070 TI"),
    ("rtx3070pcie", "RTX 3070"),
    ("rtx3080", "RTX 3080"),
    ("3080", "RTX 3080"),
    ("rtx3080pcie", "RTX 3080"),
    ("rtx3080ti", "RTX 3080 TI"),
    ("rtx3080tipcie", "RTX 3080 TI"),
    ("rtx3090", "RTX 3090"),
    ("3090", "RTX 3090"),
    ("rtx3090pcie", "RTX 3090"),
    ("rtx3090ti", "RTX 3090 TI"),
    ("3090ti", "RTX 3090 TI"),
    ("rtx3090tipcie", "RTX 3090 TI"),
    ("rtx4060ti", "RTX 4060 TI"),
    ("rtx4070", "RTX 4070"),
    ("rtx4070ti", "RTX 4070 TI"),
    ("rtx4070s", "RTX 4070 SUPER"),
    ("rtx4070super", "RTX 4070 SUPER"),
    ("rtx4070tis", "RTX 4070 TI SUPER"),
    ("rtx4070sti", "RTX 4070 TI SUPER"),
    ("rtx4070tisuper", "RTX 4070 TI SUPER"),
    ("rtx4080", "RTX 4080"),
    ("4080", "RTX 4080"),
    ("rtx4080pcie", "RTX 4080"),
    ("rtx4080s", "RTX 4080 SUPER"),
    ("rtx4080super", "RTX 4080 SUPER"),
    ("rtx4090", "RTX 4090"),
    ("4090", "RTX 4090"),
    ("rtx4090pcie", "RTX 4090"),
    ("rtx4090d", "RTX 4090 D"),
    ("rtx5070ti", "RTX 5070 TI"),
    ("rtx5080", "RTX 5080"),
    ("5080", "RTX 5080"),
    ("rtx5080pcie", "RTX 5080"),
    ("rtx5090", "RTX 5090"),
    ("5090", "RTX 5090"),
    ("rtx5090pcie", "RTX 5090"),
    ("rtxa2000", "RTX A2000"),
    ("a2000", "RTX A2000"),
    ("rtxa4000", "RTX A4000"),
    ("a4000", "RTX A4000"),
    ("rtxa4000pcie", "RTX A4000"),
    ("rtxa4500", "RTX A4500"),
    ("a4500", "RTX A4500"),
    ("rtxa4500pcie", "RTX A4500"),
    ("rtxa5000", "RTX A5000"),
    ("a5000", "RTX A5000"),
    ("rtxa5000pcie", "RTX A5000"),
    ("rtxa6000", "RTX A6000"),
    ("a6000", "RTX A6000"),
    ("rtxa6000pcie", "RTX A6000"),
    ("rtx4000ada", "RTX 4000 ADA"),
    ("rtx4000adageneration", "RTX 4000 ADA"),
    ("rtx4000adapcie", "RTX 4000 ADA"),
    ("rtx5000ada", "RTX 5000 ADA"),
    ("rtx5000adageneration", "RTX 5000 ADA"),
    ("rtx6000ada", "RTX 6000 ADA"),
    ("rtx6000adageneration", "RTX 6000 ADA"),
    ("6000ada", "RTX 6000 ADA"),
    ("rtx6000adapcie", "RTX 6000 ADA"),
    ("rtxpro6000", "RTX PRO 6000"),
    ("rtxpro6000ws", "RTX PRO 6000"),
    ("rtxpro6000s", "RTX PRO 6000"),
    ("rtxpro6000blackwell", "RTX PRO 6000"),
    ("rtxpro6000blackwellworkstationedition", "RTX PRO 6000"),
    ("rtxpro6000blackwellserveredition", "RTX PRO 6000"),
    ("a10", "A10"),
    ("a10pcie", "A10"),
    ("a16", "A16"),
    ("a30", "A30"),
    ("a40", "A40"),
    ("a40pcie", "A40"),
    ("l4", "L4"),
    ("l4pcie", "L4"),
    ("l40", "L40"),
    ("l40pcie", "L40"),
    ("l40s", "L40S"),
    ("l40spcie", "L40S"),
    ("t4", "T4"),
    ("p40", "P40"),
    ("p100", "P100"),
    ("p100pcie", "P100 PCIE"),
    ("gtx1080ti", "GTX 1080 TI"),
    ("titanrtx", "TITAN RTX"),
    ("titanv", "TITAN V"),
    ("v100", "V100"),
    ("v100pcie", "V100 PCIE"),
    ("v100sxm2", "V100 SXM2"),
    ("v100sxm232gb", "V100 SXM2"),
    ("v100sxm3", "V100 SXM3"),
    ("a100", "A100"),
    ("a100pcie", "A100 PCIE"),
    ("a100pcie40gb", "A100 PCIE"),
    ("a100sxm", "A100 SXM4"),
    ("a100sxm4", "A100 SXM4"),
    ("a100x", "A100X"),
    ("a800pcie", "A800 PCIE"),
    ("h100", "H100"),
    ("h100pcie", "H100 PCIE"),
    ("h100nvl", "H100 NVL"),
    ("h100sxm", "H100 SXM"),
    ("h100sxm5", "H100 SXM"),
    ("h10080gbhbm3", "H100 SXM"),
    ("h100hbm3", "H100 SXM"),
    ("h200", "H200"),
    ("h200sxm", "H200 SXM"),
    ("h200sxm5", "H200 SXM"),
    ("h200nvl", "H200 NVL"),
    ("gh200", "GH200"),
    ("gh200480gb", "GH200"),
    ("b200", "B200"),
    ("b200sxm", "B200 SXM"),
    ("b200sxm6", "B200 SXM"),
    ("b300", "B300"),
    ("quadrortx8000", "QUADRO RTX 8000"),
    ("rtx8000", "QUADRO RTX 8000"),
    ("qrtx8000", "QUADRO RTX 8000"),
    ("qrtx6000", "QUADRO RTX 6000"),
    ("rtx6000", "QUADRO RTX 6000"),
    ("mi300x", "MI300X"),
    ("instinctmi300x", "MI300X"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_many_spellings() {
        for raw in ["RTX 4090", "rtx4090", "NVIDIA GeForce RTX 4090", "geforcertx4090-pcie-24gb", "RTX_4090", "NVIDIA GeForce RTX 4090 PCIe 24GB"] {
            assert_eq!(GpuModel::canonical(raw).as_str(), "RTX 4090", "{raw}");
        }
        for raw in ["H100 SXM", "h100-sxm5-80gb", "H100_SXM", "NVIDIA H100 80GB HBM3"] {
            assert_eq!(GpuModel::canonical(raw).as_str(), "H100 SXM", "{raw}");
        }
        assert_eq!(GpuModel::canonical("A100-SXM4-80GB").as_str(), "A100 SXM4");
        assert_eq!(GpuModel::canonical("NVIDIA A100-PCIE-40GB").as_str(), "A100 PCIE");
        assert_eq!(GpuModel::canonical("Tesla V100-SXM2-16GB").as_str(), "V100 SXM2");
        assert_eq!(GpuModel::canonical("NVIDIA Something New 7").as_str(), "SOMETHING NEW 7");
    }

    #[test]
    fn a_memory_size_in_a_name_is_told() {
        for (raw, gib) in [("A100 80GB", 80), ("a100-pcie-40gb", 40), ("Tesla V100 32 GiB", 32), ("NVIDIA H100 80GB HBM3", 80)] {
            assert_eq!(named_memory_mib(raw), Some(gib * 1024), "{raw}");
        }
        for raw in ["A100", "RTX 4090", "GH200 480GB", "80GB", ""] {
            assert_eq!(named_memory_mib(raw), None, "{raw}");
        }
        assert_eq!(GpuModel::canonical("A100 80 GB").as_str(), "A100");
    }

    #[test]
    fn families_answer_but_prefixes_do_not() {
        let sxm = GpuModel::canonical("H100 SXM");
        assert!(sxm.answers(&GpuModel::canonical("H100")));
        assert!(!sxm.answers(&GpuModel::canonical("H100 PCIE")));
        assert!(!GpuModel::canonical("RTX 4090 D").answers(&GpuModel::canonical("RTX 4090")));
        assert!(!GpuModel::canonical("RTX 3090 TI").answers(&GpuModel::canonical("RTX 3090")));
    }

    #[test]
    fn memory_snaps_and_never_divides() {
        for (reported, gib) in
            [(24564, 24), (32607, 32), (81559, 80), (81920, 80), (40960, 40), (49140, 48), (46068, 45), (11264, 11), (143_771, 141)]
        {
            let mib = snap_memory_mib(reported);
            let want = if gib == 45 { 48 } else { gib };
            assert_eq!(mib, want * 1024, "{reported}");
        }
        assert_eq!(snap_memory_mib(55_000), 55_000);
    }
}

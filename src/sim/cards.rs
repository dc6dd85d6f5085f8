//! The GPU models of the simulated market: each with the names that the two vendors and `nvidia-smi` use for it.

use crate::domain::money::Rate;

/// A GPU model.
#[derive(Debug, PartialEq, Eq)]
pub struct Card {
    /// Vast.ai's name.
    pub vastai: &'static str,
    /// TensorDock's name and display name; empty where TensorDock has none.
    pub tensordock: (&'static str, &'static str),
    /// What `nvidia-smi` calls it.
    pub smi: &'static str,
    /// What `nvidia-smi` and Vast.ai report as its memory, MiB.
    pub mib: u32,
    /// A middling price of one, thousandths of a cent per hour.
    pub millicents: i64,
    /// Compute capability × 100.
    pub capability: u32,
    /// Teraflops (single precision).
    pub tflops: u32,
    /// How common it is on the market.
    pub weight: u32,
}

impl Card {
    /// A middling price of one.
    #[must_use]
    pub fn price(&self) -> Rate {
        Rate(self.millicents * 10_000_000)
    }

    /// Another model that is no larger: what a host that lies may have instead.
    #[must_use]
    pub fn other_than(&self, pick: u64) -> &'static Self {
        let others: Vec<&'static Self> = CARDS.iter().filter(|card| card.smi != self.smi && card.mib <= self.mib).collect();
        let index = usize::try_from(pick).unwrap_or(0) % others.len().max(1);
        others.get(index).copied().unwrap_or(&CARDS[0])
    }
}

macro_rules! cards {
    ($($vastai:literal, $v0:literal, $display:literal, $smi:literal, $mib:literal, $price:literal, $cap:literal, $tf:literal, $weight:literal;)*) => {
        /// Every model on the market, cheapest generation first.
        pub const CARDS: &[Card] = &[$(Card {
            vastai: $vastai, tensordock: ($v0, $display), smi: $smi, mib: $mib, millicents: $price, capability: $cap, tflops: $tf, weight: $weight,
        }),*];
    };
}

cards! {
    "GTX 1080 Ti", "", "", "NVIDIA GeForce GTX 1080 Ti", 11_264, 6_500, 610, 11, 2;
    "RTX 2080 Ti", "geforcertx2080ti-pcie-11gb", "NVIDIA GeForce RTX 2080 Ti PCIe 11GB",
        "NVIDIA GeForce RTX 2080 Ti", 11_264, 9_000, 750, 13, 3;
    "RTX 3060", "", "", "NVIDIA GeForce RTX 3060", 12_288, 6_800, 860, 13, 6;
    "RTX 3070", "", "", "NVIDIA GeForce RTX 3070", 8_192, 7_700, 860, 20, 3;
    "RTX 3080", "geforcertx3080-pcie-10gb", "NVIDIA GeForce RTX 3080 PCIe 10GB", "NVIDIA GeForce RTX 3080", 10_240, 9_500, 860, 30, 4;
    "RTX 3090", "geforcertx3090-pcie-24gb", "NVIDIA GeForce RTX 3090 PCIe 24GB", "NVIDIA GeForce RTX 3090", 24_576, 16_500, 860, 36, 14;
    "RTX 3090 Ti", "", "", "NVIDIA GeForce RTX 3090 Ti", 24_564, 19_000, 860, 40, 2;
    "RTX 4060 Ti", "", "", "NVIDIA GeForce RTX 4060 Ti", 16_380, 10_500, 890, 22, 3;
    "RTX 4070 Ti", "", "", "NVIDIA GeForce RTX 4070 Ti", 12_282, 13_000, 890, 40, 3;
    "RTX 4070S Ti", "", "", "NVIDIA GeForce RTX 4070 Ti SUPER", 16_376, 14_500, 890, 44, 2;
    "RTX 4080", "", "", "NVIDIA GeForce RTX 4080", 16_376, 20_000, 890, 49, 3;
    "RTX 4090", "geforcertx4090-pcie-24gb", "NVIDIA GeForce RTX 4090 PCIe 24GB", "NVIDIA GeForce RTX 4090", 24_564, 34_000, 890, 83, 26;
    "RTX 4090D", "", "", "NVIDIA GeForce RTX 4090 D", 24_564, 29_000, 890, 73, 2;
    "RTX 5080", "", "", "NVIDIA GeForce RTX 5080", 16_303, 24_000, 1200, 56, 3;
    "RTX 5090", "geforcertx5090-pcie-32gb", "NVIDIA GeForce RTX 5090 PCIe 32GB", "NVIDIA GeForce RTX 5090", 32_607, 47_000, 1200, 105, 16;
    "RTX A4000", "rtxa4000-pcie-16gb", "NVIDIA RTX A4000 PCIe 16GB", "NVIDIA RTX A4000", 16_376, 11_000, 860, 19, 4;
    "RTX A5000", "rtxa5000-pcie-24gb", "NVIDIA RTX A5000 PCIe 24GB", "NVIDIA RTX A5000", 24_564, 19_000, 860, 28, 4;
    "RTX A6000", "rtxa6000-pcie-48gb", "NVIDIA RTX A6000 PCIe 48GB", "NVIDIA RTX A6000", 49_140, 42_000, 860, 39, 6;
    "RTX 4000Ada", "", "", "NVIDIA RTX 4000 Ada Generation", 20_475, 18_000, 890, 27, 2;
    "RTX 6000Ada", "rtx6000ada-pcie-48gb", "NVIDIA RTX 6000 Ada PCIe 48GB", "NVIDIA RTX 6000 Ada Generation", 49_140, 58_000, 890, 91, 6;
    "RTX PRO 6000 WS", "", "", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97_887, 98_000, 1200, 125, 5;
    "Tesla T4", "", "", "Tesla T4", 15_360, 11_500, 750, 8, 3;
    "Tesla V100", "teslav100-pcie-16gb", "NVIDIA Tesla V100 PCIe 16GB", "Tesla V100-PCIE-16GB", 16_384, 15_500, 700, 14, 4;
    "A10", "", "", "NVIDIA A10", 23_028, 21_000, 860, 31, 2;
    "A40", "", "", "NVIDIA A40", 46_068, 38_000, 860, 37, 4;
    "L4", "l4-pcie-24gb", "NVIDIA L4 PCIe 24GB", "NVIDIA L4", 23_034, 31_000, 890, 30, 3;
    "L40S", "l40s-pcie-48gb", "NVIDIA L40S PCIe 48GB", "NVIDIA L40S", 46_068, 62_000, 890, 92, 6;
    "A100 PCIE", "a100-pcie-80gb", "NVIDIA A100 PCIe 80GB", "NVIDIA A100 80GB PCIe", 81_920, 82_000, 800, 19, 6;
    "A100 PCIE", "", "", "NVIDIA A100-PCIE-40GB", 40_960, 58_000, 800, 19, 3;
    "A100 SXM4", "a100-sxm4-80gb", "NVIDIA A100 SXM4 80GB", "NVIDIA A100-SXM4-80GB", 81_920, 96_000, 800, 19, 8;
    "A100 SXM4", "", "", "NVIDIA A100-SXM4-40GB", 40_960, 66_000, 800, 19, 3;
    "H100 PCIE", "h100-pcie-80gb", "NVIDIA H100 PCIe 80GB", "NVIDIA H100 PCIe", 81_559, 175_000, 900, 51, 4;
    "H100 NVL", "", "", "NVIDIA H100 NVL", 95_830, 192_000, 900, 60, 4;
    "H100 SXM", "h100-sxm5-80gb", "NVIDIA H100 SXM5 80GB", "NVIDIA H100 80GB HBM3", 81_559, 199_000, 900, 67, 10;
    "H200", "", "", "NVIDIA H200", 143_771, 262_000, 900, 67, 4;
    "B200", "", "", "NVIDIA B200", 183_359, 395_000, 1000, 75, 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gpu::{GpuModel, snap_memory_mib};

    #[test]
    fn all_names_of_a_card_mean_the_same_model() {
        for card in CARDS {
            let offered = GpuModel::canonical(card.vastai);
            let reported = GpuModel::canonical(card.smi);
            assert!(reported.answers(&offered) || offered.answers(&reported), "{offered} and {reported}");
            let (v0, display) = card.tensordock;
            if !v0.is_empty() {
                assert_eq!(GpuModel::canonical(v0), GpuModel::canonical(display), "{v0}");
                let placed = GpuModel::canonical(v0);
                assert!(reported.answers(&placed) || placed.answers(&reported), "{placed} and {reported}");
                let gib: u32 = v0.rsplit('-').next().and_then(|last| last.strip_suffix("gb")).unwrap().parse().unwrap();
                assert_eq!(snap_memory_mib(card.mib), gib * 1024, "{v0}");
            }
            let other = card.other_than(7);
            assert!(!GpuModel::canonical(other.smi).answers(&offered) && !offered.answers(&GpuModel::canonical(other.smi)), "{other:?}");
        }
    }
}

//! How much room a model takes, from its name: on the disk and on the GPUs.
//!
//! An estimate by whole numbers (megabytes of a million bytes): parameters times bytes per parameter, half of it again
//! while it is downloaded and unpacked, the image, and what the system needs. A model whose size its name does not tell
//! is not estimated: nothing is refused on a guess about nothing.

use crate::domain::session::Quantization;

/// Models whose names tell no size, or a misleading one, in millions of parameters. The longest name that fits counts.
const KNOWN: [(&str, u64); 16] = [
    ("mixtral-8x7b", 46_700),
    ("mixtral-8x22b", 141_000),
    ("llama-4-scout", 109_000),
    ("llama-4-maverick", 400_000),
    ("deepseek-v3", 671_000),
    ("deepseek-r1", 671_000),
    ("mistral-nemo", 12_200),
    ("mistral-large", 123_000),
    ("command-r-plus", 104_000),
    ("command-r", 35_000),
    ("phi-2", 2_700),
    ("phi-3-mini", 3_800),
    ("phi-3-medium", 14_000),
    ("phi-4", 14_700),
    ("gpt2", 124),
    ("gpt2-xl", 1_500),
];

/// The largest model that is believed, in millions of parameters.
const LARGEST: u64 = 5_000_000;

/// What a model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Its parameters, in millions.
    pub parameters_millions: u64,
    /// How its weights are stored: as said, else as its name tells, else 16 bits.
    pub quantization: Quantization,
    /// Its weights, GB, rounded up.
    pub weights_gb: u32,
    /// Room for downloading and unpacking, GB, rounded up.
    pub cache_gb: u32,
    /// The image that runs it, GB.
    pub image_gb: u32,
    /// What the system needs besides, GB.
    pub slack_gb: u32,
    /// What the template recommends at least, GB.
    pub template_gb: u32,
    /// A smaller disk will not do, GB.
    pub minimum_gb: u32,
    /// What is rented when nobody says, GB: a fifth more, in steps of 5.
    pub recommended_gb: u32,
    /// The weights and a tenth more must fit into the memory of all GPUs together, MiB.
    pub gpu_memory_mib: u32,
}

/// Estimates a model by its name (`Qwen/Qwen2.5-7B-Instruct-AWQ`); `None` when that tells no size. `template_gb` is the
/// disk that a template recommends, if one is used.
#[must_use]
pub fn estimate(model_id: &str, quantization: Option<Quantization>, template_gb: Option<Option<u32>>) -> Option<Estimate> {
    let name = model_id.rsplit('/').next().unwrap_or(model_id).to_lowercase();
    let millions = parameters(&name)?;
    let quantization = quantization.unwrap_or_else(|| quantization_of(&name));
    let weights_mb = (millions * u64::from(sixteenths(quantization))).div_ceil(16);
    let gb = |mb: u64| u32::try_from(mb.div_ceil(1000)).unwrap_or(u32::MAX);
    let (image_gb, slack_gb) = (if template_gb.is_some() { 15 } else { 10 }, 5);
    let floor = template_gb.flatten().unwrap_or(0);
    let minimum_gb = gb(weights_mb + weights_mb / 2 + u64::from(image_gb + slack_gb) * 1000).max(floor);
    Some(Estimate {
        parameters_millions: millions,
        quantization,
        weights_gb: gb(weights_mb),
        cache_gb: gb(weights_mb / 2),
        image_gb,
        slack_gb,
        template_gb: floor,
        minimum_gb,
        recommended_gb: (minimum_gb * 12).div_ceil(10).div_ceil(5) * 5,
        gpu_memory_mib: u32::try_from(weights_mb * 11 / 10 * 1_000_000 / 1_048_576).unwrap_or(u32::MAX),
    })
}

/// Bytes per parameter, in sixteenths. AWQ and GPTQ keep scales beside their four bits.
fn sixteenths(quantization: Quantization) -> u32 {
    match quantization {
        Quantization::Fp32 => 64,
        Quantization::Fp16 | Quantization::Bf16 => 32,
        Quantization::Fp8 | Quantization::Int8 => 16,
        Quantization::Awq | Quantization::Gptq => 9,
        Quantization::Int4 | Quantization::GgufQ4 => 8,
    }
}

fn quantization_of(name: &str) -> Quantization {
    use Quantization as Q;
    let words = [
        ("awq", Q::Awq),
        ("gptq", Q::Gptq),
        ("gguf", Q::GgufQ4),
        ("q4", Q::GgufQ4),
        ("int4", Q::Int4),
        ("4bit", Q::Int4),
        ("fp8", Q::Fp8),
        ("int8", Q::Int8),
        ("8bit", Q::Int8),
        ("w8a8", Q::Int8),
        ("fp32", Q::Fp32),
    ];
    words.into_iter().find(|(word, _)| name.contains(word)).map_or(Q::Fp16, |(_, q)| q)
}

/// Millions of parameters, from the name in lower case.
fn parameters(name: &str) -> Option<u64> {
    let known = || KNOWN.iter().filter(|(word, _)| name.contains(word)).max_by_key(|(word, _)| word.len()).map(|(_, millions)| *millions);
    // A size in the name counts before the family's: a distilled model is named after its teacher.
    let misleading = ["mixtral-8x", "llama-4-"].iter().any(|word| name.contains(word));
    let words = || name.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    let told = || words().find_map(|word| size(word).or_else(|| word.split('.').find_map(size)));
    let found = if misleading { known().or_else(told) } else { told().or_else(known) };
    found.filter(|millions| (1..=LARGEST).contains(millions))
}

/// `7b`, `1.5b`, `350m`, `8x7b` in millions.
fn size(word: &str) -> Option<u64> {
    let (number, thousandths) = match word.strip_suffix('b') {
        Some(number) => (number, 1_000_000),
        None => (word.strip_suffix('m')?, 1_000),
    };
    let (experts, number) = match number.split_once('x') {
        Some((experts, number)) => (experts.parse::<u64>().ok().filter(|n| (1..=1024).contains(n))?, number),
        None => (1, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > 5 || fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    Some((whole * 1000 + fraction) * thousandths / 1_000_000 * experts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_names() {
        for (name, millions) in [
            ("Qwen/Qwen2.5-7B-Instruct", Some(7_000)),
            ("Qwen/Qwen2.5-0.5B", Some(500)),
            ("meta-llama/Llama-3.1-405B-Instruct-FP8", Some(405_000)),
            ("mistralai/Mixtral-8x7B-Instruct-v0.1", Some(46_700)),
            ("somebody/moe_4x13b", Some(52_000)),
            ("deepseek-ai/DeepSeek-R1", Some(671_000)),
            ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", Some(1_500)),
            ("meta-llama/Llama-4-Scout-17B-16E", Some(109_000)),
            ("facebook/opt-350m", Some(350)),
            ("openai-community/gpt2-xl", Some(1_500)),
            ("Qwen/Qwen3-30B-A3B", Some(30_000)),
            ("CohereForAI/c4ai-command-r-plus", Some(104_000)),
            ("bigscience/bloom", None),
            ("x/7bb", None),
            ("x/0b", None),
            ("x/99999b", None),
            ("", None),
        ] {
            assert_eq!(estimate(name, None, None).map(|e| e.parameters_millions), millions, "{name}");
        }
    }

    #[test]
    fn bytes_per_parameter_follow_what_is_said_then_the_name() {
        use Quantization as Q;
        let weights = |name: &str, said| estimate(name, said, None).map(|e| (e.quantization, e.weights_gb));
        for (name, said, want) in [
            ("x/a-10b", None, (Q::Fp16, 20)),
            ("x/a-10b", Some(Q::Fp32), (Q::Fp32, 40)),
            ("x/a-10b-AWQ", None, (Q::Awq, 6)),
            ("x/a-10b-AWQ", Some(Q::Fp16), (Q::Fp16, 20)),
            ("x/a-10b-GPTQ-Int4", None, (Q::Gptq, 6)),
            ("x/a-10b-FP8", None, (Q::Fp8, 10)),
            ("x/a-10b.Q4_K_M.gguf", None, (Q::GgufQ4, 5)),
            ("x/a-10b-bnb-4bit", None, (Q::Int4, 5)),
        ] {
            assert_eq!(weights(name, said), Some(want), "{name} {said:?}");
        }
    }

    #[test]
    fn the_parts_add_up_and_a_template_is_a_floor() {
        let seven = estimate("x/a-7b", None, None).unwrap();
        // 14 + 7 + 10 + 5; a fifth more is 43.2, in steps of 5.
        assert_eq!((seven.weights_gb, seven.cache_gb, seven.image_gb, seven.slack_gb), (14, 7, 10, 5));
        assert_eq!((seven.minimum_gb, seven.recommended_gb), (36, 45));
        assert_eq!(seven.gpu_memory_mib, 14_686);
        let with = estimate("x/a-7b", None, Some(Some(100))).unwrap();
        assert_eq!((with.image_gb, with.minimum_gb, with.recommended_gb), (15, 100, 120));
        assert_eq!(estimate("x/a-7b", None, Some(None)).unwrap().minimum_gb, 41);
    }
}

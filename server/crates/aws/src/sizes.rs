//! Heroku's dyno sizes on Fargate, and what they cost.
//!
//! Fargate stops a task at its memory limit where Heroku swaps first, and a quarter of a vCPU is a hard limit where
//! Heroku's shared dynos burst: so from Standard-1X on a size gets at least what Heroku promises and half as much again
//! where Fargate's steps allow it.

use paas_domain::{Architecture, DynoSize};

use crate::prices::Prices;

/// As a task definition's `runtimePlatform.cpuArchitecture` has it.
#[must_use]
pub(crate) const fn cpu_architecture(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86 => "X86_64",
        Architecture::Arm => "ARM64",
    }
}

/// A combination that Fargate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FargateSize {
    cpu_units: u32,
    memory_mib: u32,
}

/// CPU units, least and most memory, and the step between, in MiB
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html>; the smallest has no 1.5 GB).
const COMBINATIONS: [(u32, u32, u32, u32); 7] = [
    (256, 512, 2_048, 0),
    (512, 1_024, 4_096, 1_024),
    (1_024, 2_048, 8_192, 1_024),
    (2_048, 4_096, 16_384, 1_024),
    (4_096, 8_192, 30_720, 1_024),
    (8_192, 16_384, 61_440, 4_096),
    (16_384, 32_768, 122_880, 8_192),
];

impl FargateSize {
    /// The combination, when Fargate has it. CPU in units of 1/1024 vCPU, memory in MiB.
    #[must_use]
    pub const fn new(cpu_units: u32, memory_mib: u32) -> Option<Self> {
        let mut at = 0;
        while at < COMBINATIONS.len() {
            let (cpu, least, most, step) = COMBINATIONS[at];
            if cpu == cpu_units {
                let fits = memory_mib >= least && memory_mib <= most;
                let on_step = if step == 0 {
                    matches!(memory_mib, 512 | 1_024 | 2_048)
                } else {
                    fits && (memory_mib - least).is_multiple_of(step)
                };
                return if fits && on_step { Some(Self { cpu_units, memory_mib }) } else { None };
            }
            at += 1;
        }
        None
    }

    const fn valid(cpu_units: u32, memory_mib: u32) -> Self {
        match Self::new(cpu_units, memory_mib) {
            Some(size) => size,
            None => panic!("not a combination of Fargate"),
        }
    }

    /// What a dyno of this size runs on.
    #[must_use]
    pub const fn of(size: DynoSize) -> Self {
        match size {
            DynoSize::Eco | DynoSize::Basic => const { Self::valid(256, 512) },
            DynoSize::Standard1X => const { Self::valid(512, 1_024) },
            DynoSize::Standard2X => const { Self::valid(1_024, 2_048) },
            DynoSize::PerformanceM => const { Self::valid(2_048, 4_096) },
            DynoSize::PerformanceL => const { Self::valid(4_096, 16_384) },
        }
    }

    /// As a task definition's `cpu` has it: 1/1024 vCPU.
    #[must_use]
    pub const fn cpu_units(self) -> u32 {
        self.cpu_units
    }

    /// As a task definition's `memory` has it: MiB.
    #[must_use]
    pub const fn memory_mib(self) -> u32 {
        self.memory_mib
    }

    /// What running one for a month costs, in US dollars of us-east-1, without its public address.
    ///
    /// # Panics
    /// When the table of prices has no Fargate; a test would have seen it.
    #[must_use]
    pub fn usd_per_month(self, architecture: Architecture) -> f64 {
        let prices = Prices::table();
        let (vcpu, gb) = match architecture {
            Architecture::X86 => ("fargate_x86_vcpu", "fargate_x86_gb"),
            Architecture::Arm => ("fargate_arm_vcpu", "fargate_arm_gb"),
        };
        let of = |name: &str| prices.monthly(name).expect("Fargate's prices are known");
        f64::from(self.cpu_units) / 1024.0 * of(vcpu) + f64::from(self.memory_mib) / 1024.0 * of(gb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fargate_has_these_and_no_others() {
        for (cpu, memory) in
            [(256, 512), (256, 2_048), (512, 4_096), (4_096, 30_720), (8_192, 61_440), (16_384, 122_880)]
        {
            assert!(FargateSize::new(cpu, memory).is_some(), "{cpu}/{memory}");
        }
        let refused = [
            (256, 1_536),
            (256, 4_096),
            (512, 512),
            (1_024, 2_560),
            (2_048, 3_072),
            (8_192, 17_408),
            (16_384, 36_864),
            (300, 512),
        ];
        for (cpu, memory) in refused {
            assert!(FargateSize::new(cpu, memory).is_none(), "{cpu}/{memory}");
        }
    }

    #[test]
    fn a_size_gives_what_heroku_promises() {
        for size in DynoSize::ALL {
            let fargate = FargateSize::of(size);
            assert!(fargate.memory_mib() >= size.memory_mib(), "{size}");
            assert!(fargate.usd_per_month(Architecture::Arm) < fargate.usd_per_month(Architecture::X86), "{size}");
        }
    }

    /// The README shows what each size is and costs: a row that is out of date fails here.
    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../../../../README.md");
        let table = Prices::table();
        let dated = format!("{} as of {}", table.region, table.as_of);
        assert!(readme.contains(&dated), "{dated}");
        for name in ["fargate_x86_vcpu", "fargate_arm_vcpu"] {
            let source = &table.find(name).expect("Fargate's prices are known").source;
            let address = source.split(' ').next().unwrap_or_default();
            assert!(readme.contains(address), "{address}");
        }
        for size in DynoSize::ALL {
            let fargate = FargateSize::of(size);
            let (vcpu, gb) = (f64::from(fargate.cpu_units()) / 1024.0, f64::from(fargate.memory_mib()) / 1024.0);
            let usd = |architecture| format!("${:.2}", fargate.usd_per_month(architecture));
            let (x86, arm) = (usd(Architecture::X86), usd(Architecture::Arm));
            let row = format!("| {size} | {vcpu} vCPU | {gb} GB | {x86} | {arm} |");
            assert!(readme.contains(&row), "{row}");
        }
    }

    #[test]
    fn costs_what_the_rates_say() {
        let cents = |size, architecture| (FargateSize::of(size).usd_per_month(architecture) * 100.0).round();
        assert_eq!(cents(DynoSize::Basic, Architecture::X86), 901.0);
        assert_eq!(cents(DynoSize::Standard1X, Architecture::X86), 1_802.0);
        assert_eq!(cents(DynoSize::Standard1X, Architecture::Arm), 1_442.0);
        assert_eq!(cents(DynoSize::PerformanceL, Architecture::X86), 17_012.0);
    }
}

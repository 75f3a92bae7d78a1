//! The runtime's promises on ECS: real containers by the emulator, the real launcher and the dyno link in them.

#[path = "contract_runtime/bench.rs"]
mod bench;
#[path = "contract_runtime/ecs_only.rs"]
mod ecs_only;
#[path = "contract_runtime/image.rs"]
mod image;
mod support;

use bench::EcsBench;

paas_ports::scheduled_runtime_contract!(EcsBench);

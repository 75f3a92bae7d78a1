//! The runtime's promises on ECS: real containers by the emulator, the real launcher and the dyno link in them.

mod bench;
mod ecs_only;
mod image;

mod ecs {
    use super::bench::EcsBench;

    paas_ports::scheduled_runtime_contract!(EcsBench);
}

//! The ingress's promises on load balancers, and what is AWS's own: shards, drift, records, certificates.
//!
//! Requests go through the rig's front door (`PAAS_TEST_AWS_FRONT_443`), which is Route 53 and every balancer of the
//! account. Each test has an installation, a domain and balancers of its own.

mod support;

#[path = "ingress/world.rs"]
mod world;

#[path = "ingress/bench.rs"]
mod bench;

#[path = "ingress/own.rs"]
mod own;

paas_ports::ingress_contract!(bench::AlbBench);
